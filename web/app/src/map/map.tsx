import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { LiveMap, MapOptions } from "./live-map.ts";

/** The map on screen, for the controls around it; undefined while it loads. */
export const liveMap = signal<LiveMap | undefined>(undefined);

const failed = signal("");

export function MapView(props: MapOptions) {
  const container = useRef<HTMLDivElement>(null);
  useEffect(() => {
    let gone = false;
    failed.value = "";
    import("./live-map.ts")
      .then(({ LiveMap }) => {
        if (!gone && container.current) liveMap.value = new LiveMap(container.current, props);
      })
      .catch((err: unknown) => {
        console.error("map:", err);
        failed.value = "This browser can't draw the map (WebGL is off or the map could not be loaded). The list of people and the chat work without it.";
      });
    return () => {
      gone = true;
      liveMap.value?.destroy();
      liveMap.value = undefined;
    };
  }, []);
  return (
    <>
      <div ref={container} class="map" data-testid="map" />
      {failed.value !== "" && <p class="map-failed">{failed.value}</p>}
    </>
  );
}
