"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const rows = JSON.parse(document.getElementById("rows").textContent);

  // Light or dark: as the system is, until somebody chooses.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = (isDark) => { root.dataset.theme = isDark ? "dark" : "light"; };
  show(dark.matches);
  dark.addEventListener("change", () => show(dark.matches));
  document.getElementById("theme").addEventListener("click", () => show(root.dataset.theme !== "dark"));

  // Texts come packed: base64 of gzip of JSON.
  const unpacked = new WeakMap();
  const unpack = (script) => {
    if (!unpacked.has(script)) {
      const bytes = Uint8Array.from(atob(script.textContent), (letter) => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      unpacked.set(script, new Response(stream).json());
    }
    return unpacked.get(script);
  };

  const escaped = (text) => text.replace(/[&<>]/g, (letter) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[letter]);
  const marked = {
    asm: (line) => /^\S+:/.test(line) ? `<span class="l">${line}</span>`
      : /^\s*\./.test(line) ? `<span class="c">${line}</span>`
      : line.replace(/^(\s*)(v?p?f?n?m(?:add|sub|la|ls)\w*|vpdp\w+|[su]dot\w*|vfm[as]\S*)/, '$1<span class="f">$2</span>'),
    tir: (line) => /^\s*#/.test(line) ? `<span class="c">${line}</span>`
      : line.replace(/\b(for|in|with|def|if|else|return)\b/g, '<span class="w">$1</span>')
        .replace(/\b(T\.(?:serial|unroll|vectorized|parallel|grid|thread_binding))\b/g, '<span class="f">$1</span>'),
    manifest: (line) => line.replace(/^(\s*)(&quot;|")([^"]*)"(?=:)/, '$1<span class="l">"$3"</span>'),
  };
  const write = async (pre, script, which, label) => {
    const text = (await unpack(script))[which];
    const lines = escaped(text).split("\n").map((line) => label && line.startsWith(`${label}:`)
      ? `<span class="here">${line}</span>` : marked[which](line));
    pre.innerHTML = lines.join("\n");
    pre.hidden = false;
    const here = pre.querySelector(".here");
    pre.scrollTop = here ? here.offsetTop - pre.offsetTop - 40 : 0;
  };

  const open = (layer, isOpen) => {
    layer.querySelector(".open").setAttribute("aria-expanded", isOpen);
    layer.querySelector(".detail").hidden = !isOpen;
  };
  const layers = all(".layer");
  for (const layer of layers) {
    layer.querySelector(".head").addEventListener("click", () => {
      if (getSelection().isCollapsed) open(layer, layer.querySelector(".detail").hidden);
    });
    for (const tab of all(".tabs button", layer)) {
      tab.addEventListener("click", () => {
        for (const other of all(".tabs button", layer)) other.setAttribute("aria-pressed", other === tab);
        write(layer.querySelector("pre"), layer.querySelector(".packed"), tab.dataset.show, tab.dataset.line);
      });
    }
  }
  for (const button of all("[data-sort]")) {
    button.addEventListener("click", () => {
      for (const other of all("[data-sort]")) other.setAttribute("aria-pressed", other === button);
      const byTime = button.dataset.sort === "time";
      const key = (layer) => byTime ? -layer.dataset.time : +layer.dataset.order;
      const table = document.querySelector("table.layers");
      table.append(...[...layers].sort((a, b) => key(a) - key(b)));
    });
  }
  const manifest = document.querySelector(".manifest");
  manifest.addEventListener("toggle", () => {
    if (manifest.open) write(manifest.querySelector("pre"), manifest.querySelector(".packed"), "manifest");
  });

  // What stands for a row in a picture tells what it is, and leads to its kernel.
  const tip = document.getElementById("tip");
  for (const mark of all(".at")) {
    const number = mark.dataset.at;
    mark.addEventListener("pointermove", (event) => {
      tip.textContent = rows[number - 1];
      tip.hidden = false;
      tip.style.left = `${Math.max(4, Math.min(event.pageX + 14, scrollX + innerWidth - tip.offsetWidth - 8))}px`;
      tip.style.top = `${event.pageY + 16}px`;
    });
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
    mark.addEventListener("click", () => {
      const layer = layers.find((one) => one.dataset.steps.split(" ").includes(number));
      for (const other of layers) other.classList.toggle("found", other === layer);
      open(layer, true);
      layer.scrollIntoView({ block: "start" });
    });
  }
})();
