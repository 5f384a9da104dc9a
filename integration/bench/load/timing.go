package main

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Times in milliseconds.
type summary struct {
	Count int     `json:"count"`
	Rate  float64 `json:"rate"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func summarize(taken []time.Duration, elapsed time.Duration) summary {
	if len(taken) == 0 {
		return summary{}
	}
	slices.Sort(taken)
	at := func(q float64) float64 {
		return float64(taken[min(len(taken)-1, int(q*float64(len(taken))))]) / 1e6
	}
	return summary{
		Count: len(taken),
		Rate:  float64(len(taken)) / elapsed.Seconds(),
		P50:   at(0.5), P99: at(0.99), Max: at(1),
	}
}

// What one client saw.
type tally struct {
	taken     map[string][]time.Duration
	conflicts int
	errors    int
	first     error
}

func (t *tally) took(what string, d time.Duration) {
	if t.taken == nil {
		t.taken = map[string][]time.Duration{}
	}
	t.taken[what] = append(t.taken[what], d)
}

func (t *tally) failed(err error) {
	t.errors++
	if t.first == nil {
		t.first = err
	}
}

// Begins the measured part.
type window struct {
	began time.Time
	cpu   float64
}

func begin() window {
	answer(map[string]bool{"begins": true})
	return window{time.Now(), cpuSeconds()}
}

func (w window) end(tallies []tally) result {
	return w.endAt(time.Now(), tallies)
}

func (w window) endAt(end time.Time, tallies []tally) result {
	elapsed := end.Sub(w.began)
	r := result{Seconds: elapsed.Seconds(), CPU: cpuSeconds() - w.cpu}
	all := map[string][]time.Duration{}
	for _, t := range tallies {
		r.Conflicts += t.conflicts
		r.Errors += t.errors
		if t.first != nil && r.Error == "" {
			r.Error = t.first.Error()
		}
		for what, taken := range t.taken {
			all[what] = append(all[what], taken...)
		}
	}
	var whole []time.Duration
	for what, taken := range all {
		whole = append(whole, taken...)
		if len(all) > 1 {
			if r.Parts == nil {
				r.Parts = map[string]summary{}
			}
			r.Parts[what] = summarize(taken, elapsed)
		}
	}
	r.summary = summarize(whole, elapsed)
	return r
}

// One request of a client; `what` names its kind.
type task func(worker, turn int, t *tally) (what string, err error)

// After an error a client waits, so that a server that is away is not asked a million times.
const errorPause = 5 * time.Millisecond

// Runs the task in `c.Clients` loops until the time is over; what is under way then is waited for. With a rate, each request
// has a time at which it is due, and what it took counts from then: a server that stalls cannot hide what waited meanwhile.
func (b *bench) repeat(c command, do task) result {
	tallies := make([]tally, c.Clients)
	var tickets atomic.Int64
	var wait sync.WaitGroup
	w := begin()
	end := w.began.Add(seconds(c.Seconds))
	for worker := range tallies {
		wait.Go(func() {
			t := &tallies[worker]
			for turn := 0; ; turn++ {
				start := time.Now()
				if c.Rate > 0 {
					start = w.began.Add(seconds(float64(tickets.Add(1)-1) / c.Rate))
				}
				if !start.Before(end) {
					return
				}
				time.Sleep(time.Until(start))
				what, err := do(worker, turn, t)
				if err != nil {
					t.failed(err)
					time.Sleep(errorPause)
				} else if what != "" {
					t.took(what, time.Since(start))
				}
			}
		})
	}
	wait.Wait()
	return w.end(tallies)
}
