// A Mini App's page in Node: what Telegram's analytics SDK needs of a browser, and a user who does
// something. It ends when a batch has been recorded.
//
// node mini_app.js SANDBOX_URL SDK TON_CONNECT SNIPPET
"use strict";
const { readFileSync } = require("node:fs");
const { runInThisContext } = require("node:vm");

const [sandbox, ...scripts] = process.argv.slice(2);
const { fetch } = globalThis;
const events = new EventTarget();
const user = JSON.stringify({ id: 987654321, first_name: "Jane", language_code: "en", is_premium: true });
const launch = new URLSearchParams({ user, auth_date: "1743503599", hash: "0", signature: "0", start_param: "spring" });
const hash = new URLSearchParams({
  tgWebAppData: launch,
  tgWebAppVersion: "8.0",
  tgWebAppPlatform: "tdesktop",
  tgWebAppThemeParams: "{}",
});

function storage() {
  const items = new Map();
  return { getItem: (name) => items.get(name) ?? null, setItem: (name, value) => items.set(name, value) };
}

const browser = {
  window: globalThis,
  document: Object.assign(new EventTarget(), { readyState: "complete", visibilityState: "visible", cookie: "" }),
  location: new URL(`https://shop.example/#${hash}`),
  navigator: { onLine: true },
  localStorage: storage(),
  sessionStorage: storage(),
  addEventListener: events.addEventListener.bind(events),
  dispatchEvent: events.dispatchEvent.bind(events),
  Telegram: { WebView: {} },
  // The SDK's bundle has a fingerprinter, which makes one and waits for connection-completed.
  Worker: class extends EventTarget {
    postMessage() {}
  },
  // Nothing but the sandbox is reached.
  fetch: async (url, options) => {
    if (!url.startsWith(sandbox)) throw new Error(`${url} is not the sandbox`);
    const answer = await fetch(url, options);
    if (answer.status === 201) process.exit();
    return answer;
  },
};
for (const [name, value] of Object.entries(browser)) {
  Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
}
for (const script of scripts) runInThisContext(readFileSync(script, "utf8"), script);

function act() {
  const { TonConnectSDK: ton, telegramAnalytics: analytics } = globalThis;
  const versions = { ton_connect_sdk_lib: "3.4.1", ton_connect_ui_lib: "2.0.5" };
  const device = { appName: "Tonkeeper", appVersion: "5.0" };
  const proof = { tonProof: { name: "ton_proof", proof: {} } };
  const wallet = { device, provider: "http", account: { address: "0:ab", chain: "-239" }, connectItems: proof };
  const transaction = { validUntil: 1743503659, messages: [{ address: "0:cd", amount: "1000" }] };
  const happened = (detail, from = "ton-connect-") =>
    window.dispatchEvent(new CustomEvent(from + detail.type, { detail }));
  const told = (eventType, eventData) =>
    window.dispatchEvent(new MessageEvent("message", { data: JSON.stringify({ eventType, eventData }) }));

  happened(ton.createConnectionStartedEvent(versions), "ton-connect-ui-");
  happened(ton.createConnectionErrorEvent(versions, "cancelled"));
  happened(ton.createConnectionRestoringErrorEvent(versions, "no wallet"));
  happened(ton.createConnectionRestoringCompletedEvent(versions, wallet));
  happened(ton.createTransactionSentForSignatureEvent(versions, wallet, transaction));
  happened(ton.createTransactionSigningFailedEvent(versions, wallet, transaction, "rejected", 300));
  happened(ton.createTransactionSignedEvent(versions, wallet, transaction, { boc: "te6c" }));
  happened(ton.createDisconnectionEvent(versions, null, "dapp"));

  const prices = [{ label: "Tea", amount: 10 }];
  analytics.registerInvoice({ slug: "a1", title: "Tea", description: "Green", payload: "p", currency: "XTR", prices });
  window.Telegram.WebView.postEvent("web_app_open_invoice", undefined, { slug: "a1" });
  for (const status of ["paid", "failed", "cancelled"]) told("invoice_closed", { slug: "a1", status });

  document.visibilityState = "hidden";
  document.dispatchEvent(new Event("visibilitychange"));
}

telegramAnalytics.init({ token: "any-token", appName: "docs" }).then(act);
