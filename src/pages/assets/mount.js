// On the way from a dashboard to the sign-in: what stands in the address after "#" is known to the browser alone, and would
// be lost on Entra's pages. It is kept in a cookie of this host until the browser comes back.
"use strict";

const PREFIX = "__Host-entrada-fragment-";
const MAX_CHARS = 1000;
// Of tabs that are on their way at once; cookies of those that never came back must not fill up the requests.
const MAX_KEPT = 3;

const go = document.getElementById("go");
const fragment = encodeURIComponent(location.hash.slice(1));
if (fragment && fragment.length <= MAX_CHARS) {
  const names = document.cookie.split("; ").map((pair) => pair.split("=")[0]);
  const kept = names.filter((name) => name.startsWith(PREFIX));
  for (const name of kept.slice(0, Math.max(0, kept.length - MAX_KEPT + 1))) {
    document.cookie = `${name}=; Path=/; Secure; Max-Age=0`;
  }
  document.cookie = `${PREFIX}${go.dataset.state}=${fragment}; Path=/; Secure; SameSite=Lax; Max-Age=1200`;
}
location.replace(go.href);
