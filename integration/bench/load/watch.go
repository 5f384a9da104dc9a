package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// Watchers share connections and streams, as those of one kube-apiserver do.
	streamsMax = 10
	createdMax = time.Minute
)

// What the load wants to know of a WatchResponse: decoding the objects would cost this client more than anything else.
type watchAnswer struct {
	watch            int64
	revision         int64
	created, ended   bool
	reason           string
	modified         []int64
	compactedThrough int64
}

// Encodes requests as usual and answers as far as they are looked at.
type watchCodec struct{}

var _ encoding.CodecV2 = watchCodec{}

func (watchCodec) Name() string { return "proto" }

func (watchCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := v.(*pb.WatchRequest).Marshal()
	return mem.BufferSlice{mem.SliceBuffer(data)}, err
}

func (watchCodec) Unmarshal(data mem.BufferSlice, v any) error {
	buffer := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buffer.Free()
	answer := v.(*watchAnswer)
	*answer = watchAnswer{modified: answer.modified[:0]}
	return eachField(buffer.ReadOnlyData(), func(field protowire.Number, number uint64, bytes []byte) error {
		switch field {
		case 1:
			return eachField(bytes, func(field protowire.Number, number uint64, _ []byte) error {
				if field == 3 {
					answer.revision = int64(number)
				}
				return nil
			})
		case 2:
			answer.watch = int64(number)
		case 3:
			answer.created = number != 0
		case 4:
			answer.ended = number != 0
		case 5:
			answer.compactedThrough = int64(number)
		case 6:
			answer.reason = string(bytes)
		case 11:
			return answer.event(bytes)
		}
		return nil
	})
}

func (a *watchAnswer) event(bytes []byte) error {
	return eachField(bytes, func(field protowire.Number, _ uint64, bytes []byte) error {
		if field != 2 {
			return nil
		}
		return eachField(bytes, func(field protowire.Number, number uint64, _ []byte) error {
			if field == 3 {
				a.modified = append(a.modified, int64(number))
			}
			return nil
		})
	})
}

func eachField(data []byte, see func(field protowire.Number, number uint64, bytes []byte) error) error {
	for len(data) > 0 {
		field, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var number uint64
		var bytes []byte
		switch kind {
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			bytes, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(field, kind, data)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := see(field, number, bytes); err != nil {
			return err
		}
	}
	return nil
}

// A set of watchers of one server.
type watchers struct {
	conns   []*grpc.ClientConn
	streams []grpc.ClientStream
	cancel  context.CancelFunc
	done    sync.WaitGroup
	see     func(w *watchers, answer *watchAnswer, at time.Time)

	lock    sync.Mutex
	created int
	changed chan struct{}
	err     error
	closed  bool
}

// Half-open; watch `i` of n.
type ranges func(i int) (from, to string)

func everyWatcher(int) (string, string) { return prefix, prefixEnd }

// Only the first one has something to see.
func oneWatcher(i int) (string, string) {
	if i == 0 {
		return prefix, prefixEnd
	}
	return fmt.Sprintf("%squiet-%d/", prefix, i), fmt.Sprintf("%squiet-%d0", prefix, i)
}

// Opens n watchers from `after` on and waits until the server has confirmed them all.
func watch(endpoint string, n int, of ranges, after int64, see func(*watchers, *watchAnswer, time.Time)) (*watchers, error) {
	conns, err := dial(endpoint, min(n, streamsMax))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(context.Background(), "hasleader", "true"))
	w := &watchers{conns: conns, cancel: cancel, see: see, changed: make(chan struct{}, 1)}
	desc := &grpc.StreamDesc{StreamName: "Watch", ServerStreams: true, ClientStreams: true}
	for _, conn := range conns {
		stream, err := conn.NewStream(ctx, desc, "/etcdserverpb.Watch/Watch", grpc.ForceCodecV2(watchCodec{}))
		if err != nil {
			w.close()
			return nil, err
		}
		w.streams = append(w.streams, stream)
		w.done.Go(func() { w.receive(stream) })
	}
	for i := range n {
		from, to := of(i)
		if err := w.streams[i%len(w.streams)].SendMsg(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
			CreateRequest: &pb.WatchCreateRequest{
				Key: []byte(from), RangeEnd: []byte(to), StartRevision: after + 1, PrevKv: true, ProgressNotify: true,
			},
		}}); err != nil {
			w.close()
			return nil, err
		}
	}
	err = w.until(time.Now().Add(createdMax), func() bool { return w.created == n })
	if err != nil {
		w.close()
		return nil, fmt.Errorf("Expected %d watchers to be created: %w", n, err)
	}
	return w, nil
}

func (w *watchers) receive(stream grpc.ClientStream) {
	var answer watchAnswer
	for {
		err := stream.RecvMsg(&answer)
		if err == nil && answer.ended {
			err = fmt.Errorf("Expected the watch to go on, got it canceled: %s", answer.reason)
		}
		if err != nil {
			w.change(func() {
				if w.err == nil && !w.closed {
					w.err = err
				}
			})
			return
		}
		if answer.created {
			w.change(func() { w.created++ })
		}
		w.see(w, &answer, time.Now())
	}
}

// Changes what somebody may wait for.
func (w *watchers) change(what func()) {
	w.lock.Lock()
	what()
	w.lock.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watchers) until(deadline time.Time, ready func() bool) error {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		w.lock.Lock()
		err, is := w.err, ready()
		w.lock.Unlock()
		if is || err != nil {
			return err
		}
		select {
		case <-w.changed:
		case <-timer.C:
			return fmt.Errorf("nothing more came for too long")
		}
	}
}

// What ended one of the watches.
func (w *watchers) failure() error {
	w.lock.Lock()
	defer w.lock.Unlock()
	return w.err
}

func (w *watchers) requestProgress() error {
	return w.streams[0].SendMsg(&pb.WatchRequest{
		RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}},
	})
}

func (w *watchers) close() {
	w.lock.Lock()
	w.closed = true
	w.lock.Unlock()
	w.cancel()
	w.done.Wait()
	for _, conn := range w.conns {
		conn.Close()
	}
}
