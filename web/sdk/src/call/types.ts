// Calls in the app's words.

/** What a participant sends. */
export type CallSource = "mic" | "camera" | "screen" | "screen_audio" | "music";

/** One device of somebody in a call. */
export interface CallWho {
  readonly user: string;
  readonly device: string;
}

export interface CallTrack {
  readonly id: string;
  readonly source: CallSource;
  readonly video: boolean;
  /** It is sent in several sizes, of which the server chooses. */
  readonly simulcast: boolean;
}

export interface Participant extends CallWho {
  readonly epoch: number;
  readonly name: string;
  readonly region: string;
  readonly micMuted: boolean;
  /** Hears nobody. */
  readonly speakerMuted: boolean;
  readonly camera: boolean;
  readonly screen: boolean;
  readonly music: boolean;
  readonly joinedAt: Date;
  readonly tracks: readonly CallTrack[];
  /** Its connection is lost, and may be back any moment. */
  readonly suspended: boolean;
}

export type GoneReason = "left" | "kicked" | "removed" | "timed_out" | "region_lost" | (string & {});
export type OverReason = "left" | "ended" | "kicked" | "removed" | "superseded" | "region_lost" | (string & {});

/** The talk floor of a call with push to talk: who may speak. */
export interface Floor {
  readonly holder?: CallWho;
  /** How many wait for it. */
  readonly waiting: number;
  /** This participant's place among them, from 1; 0: does not wait. */
  readonly position: number;
  /** This participant may speak. */
  readonly mine: boolean;
  /** Its region can't be reached: nobody gets it now. */
  readonly unavailable: boolean;
}

/** How who is heard is chosen. */
export interface Hearing {
  /** Streams at a time; 0: all. */
  readonly most: number;
  readonly loudness: number;
  readonly nearness: number;
  /** Metres, beyond which nobody is heard; 0: no limit. */
  readonly radius: number;
}

/** How a track is to be played. */
export interface Sound {
  /** 0 to 1. */
  readonly gain: number;
  /** -1 (left) to 1. */
  readonly pan: number;
}

/** How well a call goes: 1 poor, 2 fair, 3 good; 0: not known. */
export type Grade = 0 | 1 | 2 | 3;

export interface Quality {
  readonly grade: Grade;
  /** bit/s that this participant can get, as estimated; 0: not known. */
  readonly available: number;
  /** Pictures that are not sent in full, by track id. */
  readonly shown: ReadonlyMap<string, { readonly paused: boolean; readonly height: number }>;
}

/** What may be sent, and how it is received, of one track. */
export interface TrackStats {
  /** "in": from somebody; "out": to the others. */
  readonly way: "in" | "out";
  readonly who?: CallWho;
  readonly source?: CallSource;
  readonly kind: "audio" | "video";
  readonly packets: number;
  readonly bytes: number;
  /** Of packets that came in: how many did not. */
  readonly lost: number;
  /** Seconds. */
  readonly jitter: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
  /** Grows while there is sound (W3C webrtc-stats totalAudioEnergy). */
  readonly energy: number;
  /** Of the samples that were played, those that were made up for lost ones. */
  readonly concealed: number;
  readonly samples: number;
}

/** The server's address book for ICE. */
export interface IceServer {
  readonly urls: readonly string[];
  readonly username?: string;
  readonly credential?: string;
}

export const whoKey = (w: CallWho): string => `${w.user}/${w.device}`;
/** Names something that somebody sends, wherever it comes from. */
export const mediaKey = (w: CallWho, source: CallSource): string => `${w.user}/${w.device}/${source}`;
