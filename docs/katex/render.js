// Formulas of a page, by the copy of KaTeX in this folder. It is loaded only where there are formulas; without JavaScript their TeX stays as text.
(function () {
  const folder = new URL(".", document.currentScript.src).href;
  function render() {
    document.querySelectorAll(".arithmatex").forEach(function (element) {
      const tex = element.textContent.trim().replace(/^\\[[(]/, "").replace(/\\[\])]$/, "");
      window.katex.render(tex, element, { displayMode: element.tagName === "DIV", throwOnError: false });
    });
  }
  function start() {
    if (!document.querySelector(".arithmatex")) return;
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = folder + "katex.min.css";
    document.head.append(style);
    const script = document.createElement("script");
    script.src = folder + "katex.min.js";
    script.onload = render;
    document.head.append(script);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
