// The address bar holds the whole view: every choice is a parameter of the query.

/** @typedef {Record<string, string>} Choice */

/** The choice in the address bar. @returns {Choice} */
export function choice() {
  return Object.fromEntries(new URLSearchParams(location.search));
}

/** The address of a choice; empty values are left out. @param {Record<string, any>} chosen */
export function address(chosen) {
  const kept = Object.entries(chosen).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const query = new URLSearchParams(kept.map(([key, value]) => [key, String(value)])).toString();
  return query ? `/?${query}` : "/";
}

/** The choice, with changes; undefined removes. @param {Record<string, any>} changes */
export function changed(changes) {
  return address({ ...choice(), ...changes });
}

/** Show another address. @param {string} target @param {boolean} [replace] whether it takes the place of this one */
export function go(target, replace = false) {
  if (target !== location.pathname + location.search) history[replace ? "replaceState" : "pushState"](null, "", target);
  window.dispatchEvent(new Event("navigate-view"));
}

/** Parameters of the map that are in the address, as the API takes them. @param {Choice} chosen */
export function mapParameters(chosen) {
  const { text, namespace, label, state, deployment, peer, order } = chosen;
  const limit = chosen.limit ?? "30";
  /** @type {Choice} */
  const asked = { limit };
  for (const [key, value] of Object.entries({ text, namespace, label, state, deployment, peer, order })) {
    if (value) asked[key] = value;
  }
  return asked;
}

/** The window of time in the address; null: live. @param {Choice} chosen @returns {Choice | null} */
export function windowParameters(chosen) {
  if (!chosen.from) return null;
  /** @type {Choice} */
  const asked = { from: chosen.from };
  if (chosen.to) asked.to = chosen.to;
  if (chosen.compare) asked.beforeTo = chosen.from;
  return asked;
}
