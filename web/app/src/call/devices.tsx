import type { DeviceKind } from "@muster/sdk";
import { attempt } from "../ui/toast.tsx";
import { choose, chosen, devices } from "./sending.ts";

const kinds: readonly (readonly [DeviceKind, string])[] = [["mic", "Microphone"], ["camera", "Camera"], ["speaker", "Speaker"]];

/** Which microphone, camera and speaker a call uses. */
export function Devices() {
  return (
    <div class="call-menu" role="group" aria-label="Devices" data-testid="device-menu">
      {kinds.map(([kind, name]) => {
        const there = devices.value.filter((d) => d.kind === kind);
        if (there.length === 0) return null;
        const now = chosen.value[kind];
        return (
          <label key={kind} class="field">
            <span class="field-label">{name}</span>
            <select value={there.some((d) => d.id === now) ? now : ""} data-testid={`device-${kind}`} onChange={(e) => void attempt(() => choose(kind, e.currentTarget.value))}>
              <option value="">Usual</option>
              {there.filter((d) => d.id !== "default").map((d, n) => <option key={d.id} value={d.id}>{d.name || `${name} ${n + 1}`}</option>)}
            </select>
          </label>
        );
      })}
    </div>
  );
}
