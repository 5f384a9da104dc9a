// Runs one of the recipes of etcd's own Go client against an endpoint: `recipes ENDPOINT PREFIX RECIPE`. Exit code 0: the
// recipe kept its promises; else standard error says which one it broke. Built and run by recipes.test.ts.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	v3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"
)

// How long one recipe may take; nothing is measured against it.
const deadline = 50 * time.Second

type place struct {
	ctx      context.Context
	endpoint string
	prefix   string
}

var recipes = map[string]func(place) error{
	"mutex":                       mutex,
	"mutex-of-a-silent-holder":    silentHolder,
	"mutex-under-contention":      contention,
	"election":                    election,
	"election-of-a-silent-leader": silentLeader,
	"stm-serializable-snapshot":   stm(concurrency.SerializableSnapshot),
	"stm-serializable":            stm(concurrency.Serializable),
	"stm-repeatable-reads":        stm(concurrency.RepeatableReads),
	"stm-read-committed":          stmReadCommitted,
	"queue":                       queue,
	"barriers":                    barriers,
	"rwmutex":                     rwMutex,
}

func main() {
	if len(os.Args) != 4 || recipes[os.Args[3]] == nil {
		fmt.Fprintln(os.Stderr, "Expected ENDPOINT PREFIX RECIPE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := recipes[os.Args[3]](place{ctx: ctx, endpoint: os.Args[1], prefix: os.Args[2]}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func (p place) client() (*v3.Client, error) {
	return v3.New(v3.Config{Endpoints: []string{p.endpoint}, DialTimeout: 10 * time.Second, Context: p.ctx})
}

// A client of its own with a session of `ttl` seconds.
func (p place) session(ttl int) (*concurrency.Session, error) {
	client, err := p.client()
	if err != nil {
		return nil, err
	}
	return concurrency.NewSession(client, concurrency.WithTTL(ttl), concurrency.WithContext(p.ctx))
}

func (p place) sessions(n, ttl int) ([]*concurrency.Session, error) {
	all := make([]*concurrency.Session, n)
	for i := range all {
		session, err := p.session(ttl)
		if err != nil {
			return nil, err
		}
		all[i] = session
	}
	return all, nil
}

func expect(condition bool, format string, args ...any) error {
	if condition {
		return nil
	}
	return fmt.Errorf("Expected "+format, args...)
}

// Runs `work` n times at once and gives the errors.
func together(n int, work func(i int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = work(i) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func mutex(p place) error {
	all, err := p.sessions(2, 60)
	if err != nil {
		return err
	}
	one, two := concurrency.NewMutex(all[0], p.prefix), concurrency.NewMutex(all[1], p.prefix)
	if err := one.TryLock(p.ctx); err != nil {
		return err
	}
	if err := two.TryLock(p.ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("Expected TryLock of what is held to fail, got %v", err)
	}
	short, cancel := context.WithTimeout(p.ctx, 300*time.Millisecond)
	defer cancel()
	if err := two.Lock(short); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("Expected Lock of what is held to wait, got %v", err)
	}
	held, err := all[0].Client().Txn(p.ctx).If(one.IsOwner()).Commit()
	if err != nil {
		return err
	}
	if err := expect(held.Succeeded, "the holder to be the owner"); err != nil {
		return err
	}
	locked := make(chan error, 1)
	go func() { locked <- two.Lock(p.ctx) }()
	if err := p.waitForKeys(all[0].Client(), 2); err != nil {
		return err
	}
	if err := one.Unlock(p.ctx); err != nil {
		return err
	}
	if err := <-locked; err != nil {
		return err
	}
	after, err := all[1].Client().Txn(p.ctx).If(one.IsOwner()).Commit()
	if err != nil {
		return err
	}
	if err := expect(!after.Succeeded, "who has unlocked not to be the owner"); err != nil {
		return err
	}
	// Its end is the end of the lock.
	if err := all[1].Close(); err != nil {
		return err
	}
	return one.TryLock(p.ctx)
}

// Waits until n keys are below the prefix.
func (p place) waitForKeys(client *v3.Client, n int64) error {
	for {
		found, err := client.Get(p.ctx, p.prefix, v3.WithPrefix(), v3.WithCountOnly())
		if err != nil {
			return err
		}
		if found.Count == n {
			return nil
		}
		select {
		case <-p.ctx.Done():
			return fmt.Errorf("Expected %d keys, got %d", n, found.Count)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// A holder that renews no more loses the lock with its lease, and learns of it.
func silentHolder(p place) error {
	all, err := p.sessions(2, 2)
	if err != nil {
		return err
	}
	one, two := concurrency.NewMutex(all[0], p.prefix), concurrency.NewMutex(all[1], p.prefix)
	if err := one.Lock(p.ctx); err != nil {
		return err
	}
	all[0].Orphan()
	<-all[0].Done()
	if err := two.Lock(p.ctx); err != nil {
		return err
	}
	left, err := all[1].Client().TimeToLive(p.ctx, all[0].Lease())
	if err != nil {
		return err
	}
	if err := expect(left.TTL == -1, "the lease of the silent holder to be gone, got TTL %d", left.TTL); err != nil {
		return err
	}
	if err := one.Lock(p.ctx); err == nil {
		return errors.New("Expected a lock with an expired session to fail, got none")
	}
	return two.Unlock(p.ctx)
}

func contention(p place) error {
	const contenders, rounds = 6, 4
	all, err := p.sessions(contenders, 60)
	if err != nil {
		return err
	}
	inside, total := 0, 0
	err = together(contenders, func(i int) error {
		lock := concurrency.NewLocker(all[i], p.prefix)
		for range rounds {
			lock.Lock()
			// Not guarded by anything else: two at once show in the sum or in the race.
			inside++
			seen := inside
			time.Sleep(time.Millisecond)
			total++
			inside--
			lock.Unlock()
			if seen != 1 {
				return fmt.Errorf("Expected one holder, got %d", seen)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return expect(total == contenders*rounds, "%d rounds, got %d", contenders*rounds, total)
}

func election(p place) error {
	all, err := p.sessions(3, 60)
	if err != nil {
		return err
	}
	one, two := concurrency.NewElection(all[0], p.prefix), concurrency.NewElection(all[1], p.prefix)
	if _, err := two.Leader(p.ctx); !errors.Is(err, concurrency.ErrElectionNoLeader) {
		return fmt.Errorf("Expected no leader before the election, got %v", err)
	}
	observed := concurrency.NewElection(all[2], p.prefix).Observe(p.ctx)
	next := func(value string) error {
		select {
		case got := <-observed:
			return expect(len(got.Kvs) == 1 && string(got.Kvs[0].Value) == value, "to observe %s, got %v", value, got.Kvs)
		case <-p.ctx.Done():
			return fmt.Errorf("Expected to observe %s, got nothing", value)
		}
	}
	if err := one.Campaign(p.ctx, "one"); err != nil {
		return err
	}
	if err := next("one"); err != nil {
		return err
	}
	won := make(chan error, 1)
	go func() { won <- two.Campaign(p.ctx, "two") }()
	if err := p.waitForKeys(all[0].Client(), 2); err != nil {
		return err
	}
	if err := one.Proclaim(p.ctx, "one again"); err != nil {
		return err
	}
	if err := next("one again"); err != nil {
		return err
	}
	if err := one.Resign(p.ctx); err != nil {
		return err
	}
	if err := <-won; err != nil {
		return err
	}
	if err := next("two"); err != nil {
		return err
	}
	leader, err := one.Leader(p.ctx)
	if err != nil {
		return err
	}
	if err := expect(string(leader.Kvs[0].Value) == "two", "two to lead, got %s", leader.Kvs[0].Value); err != nil {
		return err
	}
	if err := one.Proclaim(p.ctx, "too late"); !errors.Is(err, concurrency.ErrElectionNotLeader) {
		return fmt.Errorf("Expected who has resigned not to proclaim, got %v", err)
	}
	return two.Resign(p.ctx)
}

// A leader that renews no more is followed by the next one, and those who observe are told.
func silentLeader(p place) error {
	all, err := p.sessions(2, 2)
	if err != nil {
		return err
	}
	one, two := concurrency.NewElection(all[0], p.prefix), concurrency.NewElection(all[1], p.prefix)
	if err := one.Campaign(p.ctx, "one"); err != nil {
		return err
	}
	all[0].Orphan()
	if err := two.Campaign(p.ctx, "two"); err != nil {
		return err
	}
	left, err := all[1].Client().TimeToLive(p.ctx, all[0].Lease())
	if err != nil {
		return err
	}
	if err := expect(left.TTL == -1, "the lease of the silent leader to be gone, got TTL %d", left.TTL); err != nil {
		return err
	}
	observed := <-two.Observe(p.ctx)
	if err := expect(len(observed.Kvs) == 1 && string(observed.Kvs[0].Value) == "two", "to observe two, got %v", observed.Kvs); err != nil {
		return err
	}
	if err := one.Proclaim(p.ctx, "too late"); err == nil {
		return errors.New("Expected who is no leader any more not to proclaim, got no error")
	}
	return two.Resign(p.ctx)
}

// Transfers between two accounts and a counter: no increment is lost, and the sum never changes.
func stm(level concurrency.Isolation) func(place) error {
	return func(p place) error {
		const clients, rounds = 4, 5
		counter, left, right := p.prefix+"counter", p.prefix+"left", p.prefix+"right"
		err := together(clients, func(i int) error {
			client, err := p.client()
			if err != nil {
				return err
			}
			for range rounds {
				if _, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
					add(s, counter, 1)
					add(s, left, -i)
					add(s, right, i)
					if sum := number(s, left) + number(s, right); sum != 0 {
						return fmt.Errorf("Expected a sum of 0 inside, got %d", sum)
					}
					return nil
				}, concurrency.WithIsolation(level), concurrency.WithAbortContext(p.ctx), concurrency.WithPrefetch(left, right)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return p.counted(counter, clients*rounds, clients*rounds)
	}
}

// Nothing is checked at this level, so increments may be lost, but each commit is whole.
func stmReadCommitted(p place) error {
	const clients, rounds = 4, 5
	counter := p.prefix + "counter"
	err := together(clients, func(int) error {
		client, err := p.client()
		if err != nil {
			return err
		}
		for range rounds {
			if _, err := concurrency.NewSTM(client, func(s concurrency.STM) error {
				add(s, counter, 1)
				s.Put(p.prefix+"other", s.Get(counter))
				s.Del(p.prefix + "absent")
				return nil
			}, concurrency.WithIsolation(concurrency.ReadCommitted), concurrency.WithAbortContext(p.ctx)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.counted(counter, rounds, clients*rounds)
}

func number(s concurrency.STM, key string) int {
	value, _ := strconv.Atoi(s.Get(key))
	return value
}

func add(s concurrency.STM, key string, n int) { s.Put(key, strconv.Itoa(number(s, key)+n)) }

func (p place) counted(counter string, least, most int) error {
	client, err := p.client()
	if err != nil {
		return err
	}
	found, err := client.Get(p.ctx, counter)
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(string(found.Kvs[0].Value))
	if err != nil {
		return err
	}
	return expect(count >= least && count <= most, "a count from %d to %d, got %d", least, most, count)
}

// Every element comes out once, those of one sender in order; the priority queue gives the smallest first.
func queue(p place) error {
	const elements = 12
	client, err := p.client()
	if err != nil {
		return err
	}
	fifo := recipe.NewQueue(client, p.prefix+"fifo")
	for i := range elements {
		if err := fifo.Enqueue(strconv.Itoa(i)); err != nil {
			return err
		}
	}
	for i := range elements {
		got, err := fifo.Dequeue()
		if err != nil {
			return err
		}
		if err := expect(got == strconv.Itoa(i), "element %d, got %s", i, got); err != nil {
			return err
		}
	}
	taken := make(chan string, elements)
	go func() {
		for i := range elements {
			if err := fifo.Enqueue("late " + strconv.Itoa(i)); err != nil {
				taken <- err.Error()
			}
		}
	}()
	if err := together(3, func(int) error {
		for range elements / 3 {
			got, err := fifo.Dequeue()
			if err != nil {
				return err
			}
			taken <- got
		}
		return nil
	}); err != nil {
		return err
	}
	close(taken)
	distinct := map[string]bool{}
	for got := range taken {
		distinct[got] = true
	}
	if err := expect(len(distinct) == elements, "%d distinct elements, got %v", elements, distinct); err != nil {
		return err
	}
	urgent := recipe.NewPriorityQueue(client, p.prefix+"priority")
	for _, priority := range []uint16{3, 1, 2} {
		if err := urgent.Enqueue(strconv.Itoa(int(priority)), priority); err != nil {
			return err
		}
	}
	for _, want := range []string{"1", "2", "3"} {
		got, err := urgent.Dequeue()
		if err != nil {
			return err
		}
		if err := expect(got == want, "%s first, got %s", want, got); err != nil {
			return err
		}
	}
	return nil
}

func barriers(p place) error {
	const parties = 3
	all, err := p.sessions(parties, 60)
	if err != nil {
		return err
	}
	gate := recipe.NewBarrier(all[0].Client(), p.prefix+"gate")
	if err := gate.Hold(); err != nil {
		return err
	}
	if err := gate.Hold(); err == nil {
		return errors.New("Expected a second hold to fail, got none")
	}
	passed := make(chan error, parties)
	for _, session := range all {
		go func() { passed <- recipe.NewBarrier(session.Client(), p.prefix+"gate").Wait() }()
	}
	if err := gate.Release(); err != nil {
		return err
	}
	for range parties {
		if err := <-passed; err != nil {
			return err
		}
	}
	return together(parties, func(i int) error {
		double := recipe.NewDoubleBarrier(all[i], p.prefix+"double", parties)
		if err := double.Enter(); err != nil {
			return err
		}
		return double.Leave()
	})
}

func rwMutex(p place) error {
	all, err := p.sessions(3, 60)
	if err != nil {
		return err
	}
	one, two, writer := recipe.NewRWMutex(all[0], p.prefix), recipe.NewRWMutex(all[1], p.prefix), recipe.NewRWMutex(all[2], p.prefix)
	if err := one.RLock(); err != nil {
		return err
	}
	if err := two.RLock(); err != nil {
		return err
	}
	written := make(chan error, 1)
	var mu sync.Mutex
	reading := 2
	go func() {
		err := writer.Lock()
		mu.Lock()
		defer mu.Unlock()
		written <- errors.Join(err, expect(reading == 0, "no reader beside a writer, got %d", reading))
	}()
	if err := p.waitForKeys(all[0].Client(), 3); err != nil {
		return err
	}
	for _, reader := range []*recipe.RWMutex{one, two} {
		mu.Lock()
		reading--
		mu.Unlock()
		if err := reader.RUnlock(); err != nil {
			return err
		}
	}
	if err := <-written; err != nil {
		return err
	}
	return writer.Unlock()
}
