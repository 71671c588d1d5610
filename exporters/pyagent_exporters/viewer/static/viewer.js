// Keys, and pages that follow what happens. They say all without this, too.
"use strict";
(() => {
  const all = (what, from = document) => [...from.querySelectorAll(what)];
  const find = (what, from = document) => from.querySelector(what);

  document.addEventListener("change", ({ target }) => {
    if (target.matches("[data-filters] select")) target.form.requestSubmit();
    mayCompare();
  });
  addEventListener("pageshow", mayCompare); // a browser that goes back ticks what was ticked

  function mayCompare() {
    for (const button of all("[data-compare]")) button.disabled = all("[name=run]:checked").length !== 2;
  }

  document.addEventListener("keydown", (event) => {
    const at = document.activeElement;
    if (event.ctrlKey || event.metaKey || event.altKey || at.matches("select, input:not([type=checkbox])")) return;
    const rows = all("[data-row]");
    const here = rows.findIndex((row) => row.closest("tr").contains(at));
    const move = { j: 1, k: -1, ...(here >= 0 && { ArrowDown: 1, ArrowUp: -1 }) }[event.key];
    const press = { "/": find("[data-search]"), c: find("[data-compare]:enabled"), x: rows[here] && find("[name=run]", rows[here].closest("tr")) }[event.key];
    if (move && rows.length) rows[here < 0 ? 0 : Math.min(Math.max(here + move, 0), rows.length - 1)].focus();
    else if (press) event.key === "/" ? press.select() : press.click();
    else return;
    event.preventDefault();
  });

  // A page with data-live takes over its #live when its version has grown: what is ticked,
  // unfolded, scrolled and in focus stays so.
  const { live: source, version: shown } = find("#main").dataset;
  const state = find("[data-live-state]");
  let known = +shown;

  async function look() {
    if (!document.hidden) {
      const version = await ask(source).then((answer) => answer.json()).catch(() => null);
      const old = known;
      if (version) known = version.version;
      if (old !== known) await renew().catch(() => (known = old));
      state.hidden = false;
      state.classList.toggle("lost", !version);
      const words = version ? "Live" : "Not connected";
      if (state.textContent !== words) state.textContent = words;
    }
    setTimeout(look, 1500);
  }

  async function ask(address) {
    const answer = await fetch(address, { cache: "no-store" });
    return answer.ok ? answer : Promise.reject(answer.status);
  }

  async function renew() {
    const text = await (await ask(location.href)).text();
    const fresh = find("#live", new DOMParser().parseFromString(text, "text/html"));
    const old = find("#live");
    const focus = document.activeElement.id;
    const kept = all("[id]", old).map(({ id, open, scrollLeft, scrollTop }) => [id, open, scrollLeft, scrollTop]);
    const ticked = all("[name=run]:checked", old).map((its) => its.value);
    old.replaceWith(fresh);
    for (const its of all("[name=run]", fresh)) its.checked = ticked.includes(its.value);
    for (const [id, open, left, top] of kept) {
      const twin = document.getElementById(id);
      if (twin && open !== undefined) twin.open = open;
      if (twin && (left || top)) twin.scrollTo(left, top);
    }
    document.getElementById(focus)?.focus({ preventScroll: true });
    mayCompare();
    document.dispatchEvent(new Event("viewer:renewed"));
  }

  if (source) look();
})();
