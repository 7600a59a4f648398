// Microphone, camera, screen and music as tracks that a call can send.

export interface Captured {
  readonly video?: MediaStreamTrack;
  readonly audio?: MediaStreamTrack;
  /** What it is made of ends, too. */
  stop(): void;
}

/** Speech: without echo, noise and loudness that changes. */
export async function microphone(deviceId?: string): Promise<MediaStreamTrack> {
  const s = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, ...(deviceId && { deviceId: { exact: deviceId } }) },
  });
  return s.getAudioTracks()[0]!;
}

export async function camera(deviceId?: string): Promise<MediaStreamTrack> {
  const s = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 }, ...(deviceId ? { deviceId: { exact: deviceId } } : { facingMode: "user" }) },
  });
  const [track] = s.getVideoTracks();
  track!.contentHint = "motion";
  return track!;
}

/** The screen, a window or a tab, with its sound if the user lets it. */
export async function screen(): Promise<Captured> {
  const s = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: hifi });
  const [video] = s.getVideoTracks();
  const [audio] = s.getAudioTracks();
  video!.contentHint = "detail";
  if (audio) audio.contentHint = "music";
  return { video: video!, ...(audio && { audio }), stop: () => stop(s) };
}

/** As it is: both sides, and nothing is taken for noise. */
const hifi: MediaTrackConstraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 2 };

/** The sound of a tab that the user chooses. Browsers want to be asked for its picture, too. */
export async function tabMusic(): Promise<Captured> {
  const s = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: hifi });
  for (const t of s.getVideoTracks()) t.stop();
  const [audio] = s.getAudioTracks();
  if (!audio) throw new Error("That has no sound: choose a tab, and let its sound be shared.");
  audio.contentHint = "music";
  return { audio, stop: () => stop(s) };
}

/** A file of music, which the user hears, too. It ends where the file ends. */
export async function fileMusic(file: Blob, ended: () => void): Promise<Captured> {
  const context = new AudioContext({ latencyHint: "playback" });
  const url = URL.createObjectURL(file);
  const element = new Audio(url);
  const destination = context.createMediaStreamDestination();
  destination.channelCount = 2;
  const source = context.createMediaElementSource(element);
  source.connect(destination);
  source.connect(context.destination);
  const end = () => {
    element.pause();
    URL.revokeObjectURL(url);
    stop(destination.stream);
    void context.close();
  };
  element.onended = ended;
  try {
    await element.play();
  } catch (e) {
    end();
    throw new Error("This file can't be played.", { cause: e });
  }
  const [audio] = destination.stream.getAudioTracks();
  audio!.contentHint = "music";
  return { audio: audio!, stop: end };
}

function stop(s: MediaStream): void {
  for (const t of s.getTracks()) t.stop();
}
