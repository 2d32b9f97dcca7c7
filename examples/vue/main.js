import { createApp } from "vue";

import PasswordReset from "./PasswordReset.js";

const root = document.getElementById("root");
createApp(PasswordReset, { endpoint: root.dataset.endpoint }).mount(root);
