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
	clients := make([]client, c.Clients)
	var tickets atomic.Int64
	var wait sync.WaitGroup
	w := begin()
	end := w.began.Add(seconds(c.Seconds))
	stop := sample(c, clients)
	for worker := range clients {
		wait.Go(func() {
			for turn := 0; ; turn++ {
				start := time.Now()
				if c.Rate > 0 {
					start = w.began.Add(seconds(float64(tickets.Add(1)-1) / c.Rate))
				}
				if !start.Before(end) {
					return
				}
				time.Sleep(time.Until(start))
				clients[worker].once(start, func(t *tally) (string, error) { return do(worker, turn, t) })
			}
		})
	}
	wait.Wait()
	stop()
	return w.end(collect(clients))
}

// A loop of `repeat` and what it saw since the last sample.
type client struct {
	lock  sync.Mutex
	tally tally
}

func (c *client) once(start time.Time, do func(t *tally) (string, error)) {
	var t tally
	what, err := do(&t)
	took := time.Since(start)
	c.lock.Lock()
	c.tally.add(t)
	if err != nil {
		c.tally.failed(err)
	} else if what != "" {
		c.tally.took(what, took)
	}
	c.lock.Unlock()
	if err != nil {
		time.Sleep(errorPause)
	}
}

func (t *tally) add(other tally) {
	t.conflicts += other.conflicts
	for what, taken := range other.taken {
		for _, d := range taken {
			t.took(what, d)
		}
	}
}

func collect(clients []client) []tally {
	tallies := make([]tally, len(clients))
	for i := range clients {
		clients[i].lock.Lock()
		tallies[i], clients[i].tally = clients[i].tally, tally{}
		clients[i].lock.Unlock()
	}
	return tallies
}

// Answers with samples until it is stopped.
func sample(c command, clients []client) (stop func()) {
	if c.Every <= 0 {
		return func() {}
	}
	ticker := time.NewTicker(seconds(c.Every))
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		last := window{time.Now(), cpuSeconds()}
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				next := window{time.Now(), cpuSeconds()}
				answer(map[string]result{"sample": last.endAt(next.began, collect(clients))})
				last = next
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
	}
}
