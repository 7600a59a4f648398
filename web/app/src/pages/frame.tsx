import type { ComponentChildren } from "preact";

/** The frame of the pages before the map: one calm column. */
export function Frame({ children, wide = false }: { children: ComponentChildren; wide?: boolean }) {
  return (
    <div class="frame">
      <main class={wide ? "column wide" : "column"}>{children}</main>
      <footer class="frame-foot">
        <a href="/docs" target="_blank" rel="noreferrer">API</a>
        <span>Muster · Apache-2.0</span>
      </footer>
    </div>
  );
}

export function Logo() {
  return (
    <div class="logo">
      <img src="/icon.svg" alt="" width="40" height="40" />
      <span>Muster</span>
    </div>
  );
}
