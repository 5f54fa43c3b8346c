// On the way from a dashboard to the sign-in: what stands in the address after "#" is known to the browser alone, and would
// be lost on Entra's pages. It is kept in a cookie of this host until the browser comes back.
"use strict";

const MAX_CHARS = 1500;
const go = document.getElementById("go");
const fragment = encodeURIComponent(location.hash.slice(1));
if (fragment && fragment.length <= MAX_CHARS) {
  const name = `__Host-entrada-fragment-${go.dataset.state}`;
  document.cookie = `${name}=${fragment}; Path=/; Secure; SameSite=Lax; Max-Age=1200`;
}
location.replace(go.href);
