package ledger

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// Hash is of a transaction with its postings, and of all before it in its book.
type Hash [sha256.Size]byte

// link is the hash of a transaction that follows the one with hash before:
//
//	SHA-256(before ‖ canonical(t))
//
// where the first transaction of a book follows 32 zero bytes, and canonical is, with
// integers big-endian and text as its length in 2 bytes and its bytes:
//
//	1 byte    version of this encoding: 1
//	text      book
//	8 bytes   seq
//	16 bytes  id
//	text      kind
//	16 bytes  ref
//	16 bytes  reverses; zero: it takes nothing back
//	16 bytes  by; zero: nobody
//	8 bytes   at, in microseconds since 1970-01-01 00:00 UTC
//	4 bytes   number of lines, then of each
//	          text debtor, text creditor, text currency, 8 bytes amount
//
// What people wrote is not in it: it can be erased, and the chain still holds.
func link(before Hash, t *Transaction) Hash {
	b := make([]byte, 0, 256+128*len(t.Lines))
	b = append(b, before[:]...)
	b = append(b, 1)
	b = text(b, string(t.Book))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Seq))
	b = append(b, t.ID[:]...)
	b = text(b, t.Kind)
	b = append(b, t.Ref[:]...)
	var reverses uuid.UUID
	if t.Reverses != nil {
		reverses = *t.Reverses
	}
	b = append(b, reverses[:]...)
	b = append(b, t.By[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.At.UnixMicro()))
	b = binary.BigEndian.AppendUint32(b, uint32(len(t.Lines)))
	for _, l := range t.Lines {
		b = text(b, string(l.Debtor))
		b = text(b, string(l.Creditor))
		b = text(b, string(l.Money.Currency))
		b = binary.BigEndian.AppendUint64(b, uint64(l.Money.Amount))
	}
	return sha256.Sum256(b)
}

// text appends text that check has found to be short enough.
func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
