// Dark, light, or as the system has it. No module: the theme is there before the first paint.
(() => {
  const NEXT = { system: "dark", dark: "light", light: "system" };
  const root = document.documentElement;
  const chosen = () => NEXT[localStorage.getItem("theme")] ? localStorage.getItem("theme") : "system";
  const apply = () => {
    root.dataset.theme = chosen();
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.textContent = { system: "◐", dark: "☾", light: "☼" }[chosen()];
      button.setAttribute("aria-label", `Colours: ${chosen()}. Change to ${NEXT[chosen()]}`);
      button.title = button.getAttribute("aria-label");
    }
    dispatchEvent(new Event("themechange"));
  };
  apply();
  addEventListener("DOMContentLoaded", () => {
    for (const button of document.querySelectorAll("[data-theme-switch]")) {
      button.addEventListener("click", () => { localStorage.setItem("theme", NEXT[chosen()]); apply(); });
    }
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
})();
