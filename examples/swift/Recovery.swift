// Password recovery from an app, with URLSession alone. Text to copy: it is not compiled in our tests.
import Foundation

struct Recovery {
    let endpoint: URL

    struct Reset: Decodable { let requestId: String; let matchPhrase: String }
    struct Violation: Decodable { let code: String; let message: String }
    struct Answer: Decodable {
        let message: String?
        let reset: Reset?
        let resetToken: String?
        let violations: [Violation]?
    }

    /// Never says whether there is an account. Send the same key again after a lost answer.
    func request(email: String, key: String = UUID().uuidString) async throws -> Answer {
        try await send("""
            mutation Request($input: RequestPasswordResetInput!) { answer: requestPasswordReset(input: $input) {
              ... on RequestPasswordResetSuccess { reset { requestId matchPhrase } } ... on Error { message } } }
            """, ["email": email, "idempotencyKey": key])
    }

    func verify(requestId: String, code: String) async throws -> Answer {
        try await send("""
            mutation Verify($input: VerifyPasswordResetCodeInput!) { answer: verifyPasswordResetCode(input: $input) {
              ... on VerifyPasswordResetCodeSuccess { resetToken } ... on Error { message } } }
            """, ["requestId": requestId, "code": code])
    }

    func setPassword(resetToken: String, newPassword: String) async throws -> Answer {
        try await send("""
            mutation SetPassword($input: ResetPasswordInput!) { answer: resetPassword(input: $input) {
              ... on PasswordRejectedError { violations { code message } }
              ... on ResetPasswordSuccess { reset { requestId matchPhrase } } ... on Error { message } } }
            """, ["resetToken": resetToken, "newPassword": newPassword])
    }

    /// A universal link: `https://app.example.com/reset#token=…`, or `#/reset?token=…` behind a route.
    static func token(in link: URL) -> String? {
        guard let fragment = link.fragment, let found = fragment.range(of: "token=") else { return nil }
        return String(fragment[found.upperBound...].prefix { $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" })
    }

    private struct Response: Decodable { let data: [String: Answer] }

    private func send(_ query: String, _ input: [String: String]) async throws -> Answer {
        var request = URLRequest(url: endpoint)
        request.httpMethod = "POST"
        request.setValue("application/json", forHTTPHeaderField: "Content-Type")
        request.setValue("application/graphql-response+json", forHTTPHeaderField: "Accept")
        request.httpBody = try JSONSerialization.data(withJSONObject: ["query": query, "variables": ["input": input]])
        let (body, _) = try await URLSession.shared.data(for: request)
        guard let answer = try JSONDecoder().decode(Response.self, from: body).data["answer"] else { throw URLError(.badServerResponse) }
        return answer
    }
}
