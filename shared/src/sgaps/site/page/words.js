// Words and figures that are told again and again.

export const byId = id => document.getElementById(id);
export const whole = new Intl.NumberFormat("en");

/** Only what changed: a screen reader says again what is written again, and what is selected is lost. */
export function rewrite(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
