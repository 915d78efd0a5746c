"use strict";
// Material makes a landmark of each copy button; each gets a name of its own, for screen readers.
const name = () => document.querySelectorAll("nav.md-code__nav").forEach((nav, at) => { nav.ariaLabel = `Code ${at + 1}`; });
new MutationObserver(name).observe(document, { childList: true, subtree: true });
