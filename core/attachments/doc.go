// Package attachments keeps the files that come with messages: how they are uploaded,
// what is let in, who may have them and when they go.
//
// # One upload
//
// A file is sent in chunks (tus 1.0.0, https://tus.io/protocols/resumable-upload).
// Each is an object of core/objects, and a row says where in the file it belongs, so
// any node goes on where another one stopped: there is nothing on a node but the
// chunk that it is receiving.
//
//	Create ──▶ Append … Append ──▶ the last Append ──▶ Attach ──▶ Detach
//	 row         object, row        looked at, row      message     message deleted
//	  │            │                    │
//	  └────────────┴── a day ───────────┴──▶ Sweep
//
// Every arrow is one transaction on one row, which says from which offset it goes. Of
// two who append at the same offset the second finds that it has moved, and its object
// expires in the catalog. So no lock is held while a phone sends, and none is lost
// with a node. The last chunk counts only once the whole file has been looked at and
// the rows say what it is: after a crash in between the client sends that chunk again.
//
// A connection that breaks off leaves what arrived until then.
//
// # What is let in
//
// What a file is is decided by its content, not by its name nor by what the client
// says, and only what is on a list is let in: nothing that a browser runs. A name gets
// the ending of its type if it has one of another. Images lose everything beside their
// pixels (see core/objects/images), and get a thumbnail unless they are too large to
// be decoded here.
//
// # Who may have it
//
// Until a message has it nobody; then whoever is in its room when they ask for a
// [Link], which is good for five minutes and for as long as the message is there.
package attachments
