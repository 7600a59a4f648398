import { useEffect, useState } from "preact/hooks";
import { groupRoom } from "@muster/sdk";
import { api } from "../live.ts";
import { group } from "../state.ts";
import { Button } from "../ui/button.tsx";
import { Icon } from "../ui/icons.tsx";
import { attempt } from "../ui/toast.tsx";

const most = 10;

/** Where a file is to be had, at whichever node this page came from. */
async function linkTo(id: string, thumbnail: boolean): Promise<string> {
  const { url } = await api.conversations.attachment(groupRoom(group.peek()?.id ?? ""), id, { thumbnail });
  const { pathname, search } = new URL(url, location.href);
  return pathname + search;
}

/** The receipts of an expense, as small pictures that open the whole ones. */
export function Receipts({ ids }: { ids: readonly string[] }) {
  if (ids.length === 0) return null;
  return <ul class="receipts" aria-label="Receipts">{ids.map((id, i) => <li key={id}><Receipt id={id} n={i + 1} /></li>)}</ul>;
}

function Receipt({ id, n }: { id: string; n: number }) {
  const [src, setSrc] = useState<string>();
  const [whole, setWhole] = useState(false); // there is no small one
  useEffect(() => void linkTo(id, !whole).then(setSrc, () => (whole ? undefined : setWhole(true))), [id, whole]);
  return (
    <Button class="picture" aria-label={`Open receipt ${n}`} data-testid="receipt" action={async () => window.open(await linkTo(id, false), "_blank", "noopener")}>
      {src ? <img src={src} alt={`Receipt ${n}`} width="72" height="72" onError={() => setWhole(true)} /> : <Icon name="file" />}
    </Button>
  );
}

/** Puts receipts to an expense that is being typed. `busy` tells while one is uploaded. */
export function ReceiptPicker({ ids, set, busy }: { ids: readonly string[]; set: (change: (ids: readonly string[]) => readonly string[]) => void; busy: (on: boolean) => void }) {
  const [part, setPart] = useState<number>();
  const put = async (files: readonly File[]) => {
    busy(true);
    try {
      for (const file of files.slice(0, most - ids.length)) {
        setPart(0);
        const id = await api.uploads.upload(file, { onProgress: setPart });
        set((now) => [...now, id]);
      }
    } finally {
      setPart(undefined);
      busy(false);
    }
  };
  return (
    <div class="field">
      <label for="receipt">Receipts</label>
      {ids.length > 0 && (
        <ul class="items" aria-label="Receipts">
          {ids.map((id, i) => (
            <li key={id}>
              <span class="grow">Receipt {i + 1}</span>
              <button type="button" class="icon-button" aria-label={`Remove receipt ${i + 1}`} onClick={() => set((now) => now.filter((x) => x !== id))}><Icon name="close" /></button>
            </li>
          ))}
        </ul>
      )}
      {ids.length < most && (
        <input id="receipt" type="file" multiple accept="image/jpeg,image/png,image/webp,image/gif,application/pdf" disabled={part !== undefined} data-testid="receipt-input"
          onChange={(e) => {
            const input = e.currentTarget;
            const files = [...(input.files ?? [])];
            input.value = "";
            void attempt(() => put(files));
          }} />
      )}
      {part !== undefined && <progress value={part} aria-label="Upload" />}
    </div>
  );
}
