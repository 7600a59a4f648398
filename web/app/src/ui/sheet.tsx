import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { Icon } from "./icons.tsx";

/** A sheet over the map of a phone. It takes the focus when it opens, and Escape closes it. */
export function Sheet({ name, close, children }: { name: string; close: () => void; children: ComponentChildren }) {
  const section = useRef<HTMLElement>(null);
  useEffect(() => section.current?.focus({ preventScroll: true }), []);
  return (
    <section ref={section} class="sheet" aria-label={name} tabIndex={-1} onKeyDown={(e) => e.key === "Escape" && close()}>
      <header class="sheet-head">
        <h2>{name}</h2>
        <button type="button" class="icon-button" aria-label="Close" onClick={close}><Icon name="close" /></button>
      </header>
      {children}
    </section>
  );
}
