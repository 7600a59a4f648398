package share

import "github.com/mustermesh/muster/edge"

// recall takes which cells were told, here before a restart and by other nodes.
// It comes with the first choices, without which nothing is told. A memory that
// can't be recalled is as good as lost: cells are drawn anew.
func (s *subject) recall(c edge.Choices) {
	if s.recalled && s.memories == c.Memories && !s.unsaved {
		return
	}
	err := s.snapper.Recall(c.Memory)
	s.h.metrics.recalls.WithLabelValues(outcome(err)).Inc()
	if err != nil {
		s.h.cfg.Log.Warn("which cells were told of somebody can't be recalled", "err", err)
		_ = s.snapper.Recall(nil) // what is here is to be stored in its place
	}
	s.memories, s.recalled, s.unsaved = c.Memories, true, false
}

// remember has stored what the snapper learned. Whether it was shows when the
// choices are read again: then recall finds what is there, of this node or, if it
// was faster, another one, and what of this one's is still missing is given again.
func (s *subject) remember() {
	memory, err := s.snapper.Memory()
	if err != nil {
		s.h.cfg.Log.Warn("which cells were told of somebody can't be kept", "err", err)
	}
	if memory != nil {
		s.unsaved = true
		s.h.cfg.Sharing.Remember(s.user, memory, s.memories)
	}
}
