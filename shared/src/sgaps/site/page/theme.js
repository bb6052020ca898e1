// Dark, light, or as the system has it. No module: the theme is there before the first paint.
(() => {
  const NEXT = { system: "dark", dark: "light", light: "system" };
  const root = document.documentElement;
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // a browser that keeps nothing for sites
    }
  };
  const keep = name => {
    try {
      localStorage.setItem("theme", name);
    } catch {
      // for this page only, then
    }
  };
  let theme = NEXT[stored()] ? stored() : "system";
  const apply = () => {
    root.dataset.theme = theme;
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = { system: "◐", dark: "☾", light: "☼" }[theme];
      button.setAttribute("aria-label", `Colours: ${theme}. Change to ${NEXT[theme]}`);
      button.title = button.getAttribute("aria-label");
    }
    dispatchEvent(new Event("themechange"));
  };
  apply();
  addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.addEventListener("click", () => {
        theme = NEXT[theme];
        keep(theme);
        apply();
      });
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
})();
