// Comfort only: every page works without this file.
"use strict";

// A copy button beside whatever is worth copying. Where the browser gives no clipboard, it selects the text instead.
for (const source of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy ${source.dataset.copy}`);
  const say = (text) => {
    button.textContent = text;
    button.setAttribute("aria-label", `${text} ${source.dataset.copy}`);
  };
  // Says "Copied" to those who cannot see the button change, too.
  button.setAttribute("aria-live", "polite");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      say("Copied");
    } catch {
      getSelection().selectAllChildren(source);
      say("Selected");
    }
    setTimeout(() => say("Copy"), 2000);
  });
  (source.closest("pre") ?? source).after(button);
}

// A download leaves the page as it was, and the list without the new token. So fetch the file, save it, and load the page
// anew. What goes wrong is told on the page to which the plain form leads.
for (const form of document.querySelectorAll("form[data-file]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      if (!answer.ok) return form.submit();
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await answer.blob());
      link.download = form.dataset.file;
      link.click();
    } catch {
      // No answer, and so perhaps a token that is not seen: the list says.
      return location.assign("/");
    } finally {
      button.disabled = false;
    }
    history.replaceState(null, "", "/#downloaded");
    location.reload();
  });
}

// The exact time where the reader is, instead of UTC.
for (const time of document.querySelectorAll("time[title]")) {
  time.title = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
