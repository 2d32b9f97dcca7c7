// A component without a build step; in a single-file component, `setup` and the template are the same.
import { computed, nextTick, ref } from "vue";

import { Recovery, newKey } from "../fetch/recovery.js";

const STEPS = {
  ask: { label: "Email address", button: "Send the email", type: "email", autocomplete: "username" },
  prove: { label: "Code from the email", button: "Continue", type: "text", autocomplete: "one-time-code" },
  choose: { label: "New password", button: "Change password", type: "password", autocomplete: "new-password" },
};

export default {
  props: { endpoint: { type: String, required: true } },
  setup(props) {
    const recovery = new Recovery(props.endpoint);
    const key = newKey();
    const step = ref("ask");
    const typed = ref("");
    const told = ref("");
    const busy = ref(false);
    const field = ref(null);
    let requestId, resetToken;

    const sending = {
      async ask(email) {
        const answer = await recovery.request(email, key);
        if (!answer.reset) return answer;
        requestId = answer.reset.requestId;
        step.value = "prove";
        return { message: `If there is an account, an email with these two words is on its way: ${answer.reset.matchPhrase}` };
      },
      async prove(code) {
        const answer = await recovery.verify(requestId, code);
        if (!answer.resetToken) return answer;
        resetToken = answer.resetToken;
        step.value = "choose";
        return {};
      },
      async choose(password) {
        const answer = await recovery.setPassword(resetToken, password);
        if (!answer.reset) return answer;
        step.value = "done";
        return { message: "Password changed. You can sign in now." };
      },
    };

    async function send() {
      busy.value = true;
      const before = step.value;
      const { message = "", violations = [] } = await sending[before](typed.value).catch((error) => error);
      told.value = [message, ...violations.map((each) => each.message)].join(" ");
      busy.value = false;
      if (step.value === before) return;
      typed.value = "";
      await nextTick();
      field.value?.focus();
    }

    return { busy, field, form: computed(() => STEPS[step.value]), send, told, typed };
  },
  template: `
    <h1>Forgot your password?</h1>
    <p role="status">{{ told }}</p>
    <form v-if="form" @submit.prevent="send">
      <label>{{ form.label }} <input ref="field" v-model="typed" :type="form.type" :autocomplete="form.autocomplete"></label>
      <button :disabled="busy">{{ form.button }}</button>
    </form>
  `,
};
