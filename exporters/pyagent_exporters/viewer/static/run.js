// Keys for the rows of a run; calls and their details when they are asked for. The page works without.
"use strict";
(() => {
  const known = new Map(); // what was fetched, by address: a page that is renewed asks for it again
  const wanted = new Set(); // the addresses of more rows that its reader has asked for
  const rest = () => [...document.querySelectorAll("[data-rest]")];
  const keys = () => document.querySelectorAll("[data-keys]").forEach((keys) => (keys.hidden = false));
  const openRows = () => document.querySelectorAll(".row[open] > [data-more]").forEach(fill);

  document.addEventListener("toggle", (event) => {
    const link = event.target.open && event.target.querySelector(":scope > [data-more]");
    if (link) fill(link);
  }, true);

  document.addEventListener("click", (event) => {
    if (!event.target.matches("[data-rest]") || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    fill(event.target);
  });

  async function fill(link) {
    const address = link.href;
    wanted.add(address);
    if (!known.has(address)) {
      const row = link.closest(".row");
      const answer = await fetch(address).catch(() => null);
      if (!answer || !answer.ok) return; // the link is still there
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const found = [...page.querySelectorAll("[data-details] > *")];
      if (!found.length) return;
      if (row.matches(".is-running")) return show(link, found);
      known.set(address, found);
    }
    show(link, known.get(address).map((part) => part.cloneNode(true)));
  }

  function show(link, found) {
    if (link.isConnected) link.replaceWith(...found.map((part) => document.adoptNode(part)));
  }

  document.addEventListener("keydown", (event) => {
    const at = event.target;
    if (!at.matches?.(".row > summary") || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = at.parentElement;
    const go = (summary) => summary?.focus();
    const rows = () => [...row.closest(".rows").querySelectorAll(".row > summary")].filter((its) => its.checkVisibility());
    const step = (by) => { const all = rows(); go(all[all.indexOf(at) + by]); };
    switch (event.key) {
      case "ArrowDown": step(1); break;
      case "ArrowUp": step(-1); break;
      case "Home": go(rows()[0]); break;
      case "End": go(rows().at(-1)); break;
      case "ArrowRight": row.open ? go(row.querySelector(":scope > .row > summary")) : (row.open = true); break;
      case "ArrowLeft": row.open ? (row.open = false) : go(row.parentElement.closest(".row")?.firstElementChild); break;
      default: return;
    }
    event.preventDefault();
  });

  // A row that an address or a link names may lie in folded ones, or be left out.
  async function unfold() {
    if (!location.hash.startsWith("#s-")) return;
    const find = () => document.getElementById(location.hash.slice(1));
    if (!find()) await Promise.all(rest().map(fill));
    const target = find();
    for (let row = target && target.parentElement.closest(".row"); row; row = row.parentElement.closest(".row")) row.open = true;
    if (target) { target.scrollIntoView({ block: "center" }); target.firstElementChild.focus({ preventScroll: true }); }
  }

  addEventListener("hashchange", unfold);
  document.addEventListener("viewer:renewed", () => { keys(); openRows(); rest().filter((link) => wanted.has(link.href)).forEach(fill); });
  keys();
  openRows();
  unfold();
})();
