import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { renderSVG } from "uqr";
import { group } from "../state.ts";
import { Button, copy } from "../ui/button.tsx";

const shown = signal<string | undefined>(undefined);

export function showQR(link: string): void {
  shown.value = link;
}

/** The invite link as a QR code for the phone beside. Black on white in both themes: scanners want it so. */
export function QRDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const link = shown.value;
  useEffect(() => {
    if (link !== undefined) dialog.current?.showModal();
  }, [link]);
  if (link === undefined) return null;
  const svg = `data:image/svg+xml,${encodeURIComponent(renderSVG(link, { border: 2 }))}`;
  return (
    <dialog ref={dialog} class="qr" aria-label="Invite as QR code" onClose={() => (shown.value = undefined)}
      onClick={(e) => e.target === dialog.current && dialog.current?.close()}>
      <h2>Join {group.value?.name}</h2>
      <img src={svg} alt={`QR code of ${link}`} width="264" height="264" data-testid="qr-code" />
      <p class="break">{link}</p>
      <div class="dialog-actions">
        <Button kind="primary" action={() => copy(link, "Link")}>Copy link</Button>
        <Button action={() => dialog.current?.close()}>Close</Button>
      </div>
    </dialog>
  );
}
