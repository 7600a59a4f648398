// Package steering is an authoritative DNS server for one small zone, that of
// the edge: whoever asks for the zone's name gets the addresses of the nearest
// region that can take clients.
//
//	<zone>               A AAAA HTTPS TXT   nearest region; SOA, NS
//	<region>.<zone>      A AAAA HTTPS TXT   that region
//	_<port>._https.…     HTTPS              the same, for the nodes' WebTransport port
//	name server in zone  A AAAA
//
// TXT and the target of HTTPS name the region. Everything else in the zone does
// not exist, everything outside is refused.
//
// # From question to answer
//
// A query passes, and any step may answer or drop it:
//
//	parse    (query.go)   the packet by the letter: one question, no surprises
//	locate   (locate/)    client subnet, or else who asks, to a place and the
//	                      widest prefix that is in it
//	place    (book.go)    place to region by regions/placement
//	write    (answer.go)  records that were packed before, behind the question
//
// The book holds everything that an answer is made of and never changes; once a
// second it is looked whether another one is due (steer.go), because the topology
// or the health or load of a region is another one. So a query takes no lock and
// allocates nothing. miekg/dns packs the records; parsing and the headers are
// ours, since its general Msg costs more than all the rest.
//
// # Health
//
// A region is looked at once a second. The look is bad if the region's leader was
// not heard of for 3 s, or says that no node is up. Three bad looks in a row take
// it out, two good ones bring it back: so a dead region is out 5 to 6 s after its
// last word, and a blip is not seen. If no region is in, answers go on as if all
// were. TTLs are 20 s. (Load: see regions/placement.)
//
// # Client subnet (RFC 7871)
//
// The scope of an answer is the prefix that it was made for: never narrower than
// needed, and such that no two overlap unless they are equal (see locate). While
// a region turns clients away scopes are at least /24 and /48, since who is
// turned away is decided per network of that size. Answers that are the same for
// everybody have scope 0, as has every answer to source 0, which is about who
// asks. A subnet that nobody can place is answered by the place of who asks, and
// if that is none either, by this server's: resolvers tend to ask the name server
// that answers fastest.
//
// # What it does not do
//
// DNSSEC: answers differ by client and change within seconds, so they would have
// to be signed online, with a key on each server. The zone is small and its
// clients check TLS certificates. Zone transfers: there is nothing to transfer.
// Cookies (RFC 7873) are ignored; spoofed sources meet a limit per network
// (limit.go) and answers that are hardly longer than the questions.
package steering
