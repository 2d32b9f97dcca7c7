// GraphQL over server-sent events, one request for one operation (graphql-sse's "distinct connections mode").
// The package graphql-sse does the same and reconnects; this shows how little it takes.

/** Have `sink.next` called with each result and `sink.complete` at the end; `unsubscribe` ends it. */
export function events(url, operation, sink) {
  const stopping = new AbortController();
  read(url, operation, sink, stopping.signal).then(
    () => sink.complete(),
    (error) => stopping.signal.aborted || sink.error(error),
  );
  return { unsubscribe: () => stopping.abort() };
}

async function read(url, operation, sink, signal) {
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "text/event-stream" },
    body: JSON.stringify(operation),
    signal,
  });
  // 406: this server sends no events; poll passwordResetStatus as `pollAfterSeconds` says.
  if (!response.ok) throw new Error((await response.json()).errors[0].message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const blocks = (text + part.value).split("\r\n\r\n");
    text = blocks.pop();
    for (const block of blocks) {
      if (/^event: complete/m.test(block)) return;
      const [, json] = /^data: (\{.*)/m.exec(block) ?? [];
      if (json) sink.next(JSON.parse(json));
    }
  }
  throw new Error("cut off"); // by a proxy, by the end of its life, or by a server that stops: open another one
}
