// Package sdp reads the session descriptions of participants and writes ours. Pure.
//
// What a participant sends is hostile text: Parse takes of it the few facts that an SFU
// needs, within limits, and ignores the rest (RFC 8866, RFC 8829, RFC 8839, RFC 8122).
// Answer writes the answer to an offer for "up", Offer the offer for "down". All of a
// connection is bundled on one transport (RFC 9143) with RTCP on the same (RFC 5761), or
// refused.
//
// For "up" the participant chooses payload types and identifiers of header extensions;
// one codec per section is accepted, the first that the participant prefers of those
// that we know. For "down" they are ours, the same for everybody: what is forwarded
// needs no mapping.
package sdp
