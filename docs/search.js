"use strict";
// Search that needs no server: the text of all pages is a script, loaded when somebody searches; every word must occur.
const MOST = 40;
const root = document.currentScript.src.replace(/search\/main\.js.*$/, "");
let field, list;

function load() {
  window.loading ??= new Promise(done => {
    const script = Object.assign(document.createElement("script"), {src: `${root}search/documents.js`, onload: done});
    document.head.append(script);
  });
  return window.loading;
}

function found(words) {
  const starts = words.map(word => new RegExp(`(^|\\W)${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`));
  return DOCUMENTS.map(page => {
    const title = page.title.toLowerCase(), text = page.text.toLowerCase();
    if (!words.every(word => title.includes(word) || text.includes(word))) return null;
    const each = words.map((word, i) => 20 * starts[i].test(title) + 10 * title.includes(word) + starts[i].test(text));
    const exact = 40 * (title === words.join(" ") || title.endsWith(`.${words.at(-1)}`));
    return {page, score: exact + each.reduce((sum, value) => sum + value) - Math.min(9, title.length / 20)};
  }).filter(Boolean).sort((a, b) => b.score - a.score).slice(0, MOST).map(({page}) => page);
}

function marked(text, words) {  // nodes of a text, the words in <mark>
  const pattern = new RegExp(`(${words.map(word => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "i");
  return text.split(pattern).map((part, i) => {
    if (i % 2 === 0) return part;
    return Object.assign(document.createElement("mark"), {textContent: part});
  });
}

async function show() {
  const words = field.value.toLowerCase().split(/\s+/).filter(word => word.length > 1);
  if (!words.length) return list.replaceChildren();
  await load();
  const pages = found(words);
  list.replaceChildren(...pages.map(({location, title, text}) => {
    const entry = document.createElement("article"), heading = document.createElement("h3");
    const link = Object.assign(document.createElement("a"), {href: root + location}), lines = document.createElement("p");
    const first = Math.max(0, text.toLowerCase().indexOf(words[0]) - 60);
    link.append(...marked(title, words));
    lines.append(...marked((first ? "… " : "") + text.slice(first, first + 220), words));
    heading.append(link);
    entry.append(heading, lines);
    return entry;
  }));
  if (!pages.length) list.textContent = list.dataset.noResultsText;
}

addEventListener("DOMContentLoaded", () => {
  [field, list] = ["query", "results"].map(part => document.getElementById(`mkdocs-search-${part}`));
  field.addEventListener("input", show);
  field.form.addEventListener("submit", event => event.preventDefault());
});
document.addEventListener("click", event => {  // a result on the page that is open
  if (event.target.closest("#mkdocs-search-results a")) bootstrap.Modal.getInstance("#mkdocs_search_modal")?.hide();
});
