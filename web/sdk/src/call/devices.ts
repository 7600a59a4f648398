// The microphones, cameras and speakers of this machine, as they come and go.

export type DeviceKind = "mic" | "camera" | "speaker";

export interface MediaDevice {
  readonly id: string;
  readonly kind: DeviceKind;
  /** Empty until the user has allowed to use one. */
  readonly name: string;
}

const kinds: Record<MediaDeviceKind, DeviceKind> = { audioinput: "mic", videoinput: "camera", audiooutput: "speaker" };

export async function mediaDevices(): Promise<MediaDevice[]> {
  const all = await navigator.mediaDevices.enumerateDevices();
  return all.filter((d) => d.deviceId !== "").map((d) => ({ id: d.deviceId, kind: kinds[d.kind], name: d.label }));
}

/** Tells the devices whenever they change, until the returned function is called. */
export function watchDevices(tell: (all: readonly MediaDevice[]) => void): () => void {
  const look = () => void mediaDevices().then(tell, () => {}); // the next change says it
  navigator.mediaDevices.addEventListener("devicechange", look);
  return () => navigator.mediaDevices.removeEventListener("devicechange", look);
}
