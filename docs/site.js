"use strict";
// What Material leaves: each copy button is a landmark, which needs a name of its own; code that scrolls needs the keys.
const mend = () => {
  document.querySelectorAll("nav.md-code__nav").forEach((nav, at) => { nav.ariaLabel = `Code ${at + 1}`; });
  for (const code of document.querySelectorAll("pre > code:not([tabindex])")) code.tabIndex = 0;
};
new MutationObserver(mend).observe(document, {
  childList: true, subtree: true, attributes: true, attributeFilter: ["tabindex"],
});
