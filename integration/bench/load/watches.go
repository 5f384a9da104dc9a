package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

const (
	fanOutClients = 8
	// How long events may take before the scenario gives up.
	arriveMax = 15 * time.Second
	// kube-apiserver asks so often while somebody waits.
	progressEvery = 100 * time.Millisecond
	pauseMax      = 10 * time.Millisecond
	settleMax     = 5 * time.Minute
)

func (b *bench) endpointOf(c command) string {
	if c.Endpoint != "" {
		return c.Endpoint
	}
	return b.conns[0].Target()[len("passthrough:///"):]
}

func (b *bench) revision() (int64, error) {
	r, err := b.get(0, &pb.RangeRequest{Key: []byte(outside)})
	if err != nil {
		return 0, err
	}
	return r.Header.Revision, nil
}

// How long events take from the write's acknowledgement to each watcher; what comes before it counts as 0.
func (b *bench) delivery(c command, of ranges) result {
	revision, err := b.revision()
	if err != nil {
		return failed(err)
	}
	perWrite := c.Watchers
	if from, _ := of(c.Watchers - 1); from != prefix {
		perWrite = 1
	}
	arrived := map[int64][]time.Time{}
	w, err := watch(b.endpointOf(c), c.Watchers, of, revision, func(w *watchers, a *watchAnswer, at time.Time) {
		if len(a.modified) == 0 {
			return
		}
		w.change(func() {
			for _, m := range a.modified {
				arrived[m] = append(arrived[m], at)
			}
		})
	})
	if err != nil {
		return failed(err)
	}
	defer w.close()
	var t tally
	window := begin()
	end := window.began.Add(seconds(c.Seconds))
	for time.Now().Before(end) {
		index := int(b.turn.Add(1)) % len(b.modified)
		won, err := b.update(0, index, &t)
		acknowledged := time.Now()
		if err != nil {
			t.failed(err)
			break
		}
		if !won {
			continue
		}
		wrote := b.modified[index].Load()
		err = w.until(acknowledged.Add(arriveMax), func() bool { return len(arrived[wrote]) >= perWrite })
		if err != nil {
			t.failed(fmt.Errorf("Expected an event at %d watchers, got %d: %w", perWrite, len(arrived[wrote]), err))
			break
		}
		w.lock.Lock()
		for _, at := range arrived[wrote] {
			t.took("event", max(0, at.Sub(acknowledged)))
		}
		delete(arrived, wrote)
		w.lock.Unlock()
		time.Sleep(rand.N(pauseMax))
	}
	return window.end([]tally{t})
}

// Events per second at all watchers together while the range is written to; none may be missing.
func (b *bench) fanOut(c command) result {
	revision, err := b.revision()
	if err != nil {
		return failed(err)
	}
	arrived := 0
	var last time.Time
	w, err := watch(b.endpointOf(c), c.Watchers, everyWatcher, revision, func(w *watchers, a *watchAnswer, at time.Time) {
		w.change(func() {
			arrived += len(a.modified)
			last = at
		})
	})
	if err != nil {
		return failed(err)
	}
	defer w.close()
	c.Clients = fanOutClients
	window := window{time.Now(), cpuSeconds()}
	writes := b.repeat(c, b.updates())
	tallies := []tally{{errors: writes.Errors, conflicts: writes.Conflicts}}
	expected := writes.Count * c.Watchers
	if err := w.until(time.Now().Add(arriveMax), func() bool { return arrived >= expected }); err != nil {
		tallies[0].failed(fmt.Errorf("Expected %d events, got %d: %w", expected, arrived, err))
	}
	w.lock.Lock()
	defer w.lock.Unlock()
	r := window.endAt(last, tallies)
	r.Count = arrived
	r.Rate = float64(arrived) / r.Seconds
	r.Parts = map[string]summary{"update": writes.summary}
	return r
}

// From a request for progress to an answer that reaches the revision of the last write.
func (b *bench) progress(c command, afterWrite bool) result {
	revision, err := b.revision()
	if err != nil {
		return failed(err)
	}
	answers := make(chan int64, 16)
	// Not from the next revision on: while nothing is written, etcd answers no watcher that begins in the future.
	w, err := watch(b.endpointOf(c), 1, everyWatcher, revision-1, func(_ *watchers, a *watchAnswer, _ time.Time) {
		if len(a.modified) == 0 && !a.created {
			answers <- a.revision
		}
	})
	if err != nil {
		return failed(err)
	}
	defer w.close()
	known := int64(0)
	c.Clients = 1
	return b.repeat(c, func(_, _ int, t *tally) (string, error) {
		for won := !afterWrite; !won; {
			if known, won, err = b.updateAt(0, outside, known); err != nil {
				return "", err
			}
			revision = known
		}
		start := time.Now()
		if err := b.awaitProgress(w, answers, revision); err != nil {
			return "", err
		}
		t.took("progress", time.Since(start))
		return "", nil
	})
}

func (b *bench) awaitProgress(w *watchers, answers <-chan int64, revision int64) error {
	again := time.NewTicker(progressEvery)
	defer again.Stop()
	deadline := time.After(arriveMax)
	for {
		if err := w.requestProgress(); err != nil {
			return err
		}
	wait:
		select {
		case reached := <-answers:
			if reached < revision {
				goto wait
			}
			return nil
		case <-again.C:
		case <-deadline:
			return fmt.Errorf("Expected progress to reach %d, got no such answer", revision)
		}
	}
}

// Waits until the server has caught up with what was written behind its back.
func (b *bench) settle(command) result {
	revision, err := b.revision()
	if err != nil {
		return failed(err)
	}
	var seen int64
	w, err := watch(b.endpointOf(command{}), 1, everyWatcher, revision, func(w *watchers, a *watchAnswer, _ time.Time) {
		w.change(func() {
			for _, m := range a.modified {
				seen = max(seen, m)
			}
		})
	})
	if err != nil {
		return failed(err)
	}
	defer w.close()
	var t tally
	if err := b.updateOfNext(0, &t); err != nil {
		return failed(err)
	}
	index := int(b.turn.Load()) % len(b.modified)
	wrote := b.modified[index].Load()
	if err := w.until(time.Now().Add(settleMax), func() bool { return seen >= wrote }); err != nil {
		return failed(fmt.Errorf("Expected the event of the update at %d: %w", wrote, err))
	}
	return result{Revision: wrote}
}
