package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/selvage-edge/selvage/fault"
	"github.com/selvage-edge/selvage/wire/h2/frame"
	"github.com/selvage-edge/selvage/wire/msg"
)

func TestMalformedAnswers(t *testing.T) {
	const end = frame.EndStream
	type step func(o *origin) []byte
	ok := func(o *origin) []byte { return o.headers(1, 0, ":status", "200") }
	for name, c := range map[string]struct {
		steps []step
		whole bool // the connection ends with it
		code  http2.ErrCode
	}{
		"no status":         {[]step{func(o *origin) []byte { return o.headers(1, end, "a", "b") }}, false, http2.ErrCodeProtocol},
		"long status":       {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "2000") }}, false, http2.ErrCodeProtocol},
		"status 99":         {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "099") }}, false, http2.ErrCodeProtocol},
		"status 600":        {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "600") }}, false, http2.ErrCodeProtocol},
		"status 101":        {[]step{func(o *origin) []byte { return o.headers(1, 0, ":status", "101") }}, false, http2.ErrCodeProtocol},
		"path in an answer": {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "200", ":path", "/") }}, false, http2.ErrCodeProtocol},
		"interim that ends": {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "103") }}, false, http2.ErrCodeProtocol},
		"many interim": {[]step{func(o *origin) []byte {
			var p []byte
			for range 17 {
				p = append(p, o.headers(1, 0, ":status", "103")...)
			}
			return p
		}}, false, http2.ErrCodeProtocol},
		"connection field": {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "200", "connection", "close") }}, false, http2.ErrCodeProtocol},
		"chunked":          {[]step{func(o *origin) []byte { return o.headers(1, 0, ":status", "200", "transfer-encoding", "chunked") }}, false, http2.ErrCodeProtocol},
		"capital":          {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "200", "ETag", "x") }}, false, http2.ErrCodeProtocol},
		"line feed":        {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "200", "a", "b\r\nc: d") }}, false, http2.ErrCodeProtocol},
		"two lengths": {[]step{func(o *origin) []byte {
			return o.headers(1, 0, ":status", "200", "content-length", "3", "content-length", "3")
		}}, false, http2.ErrCodeProtocol},
		"length with a sign": {[]step{func(o *origin) []byte { return o.headers(1, 0, ":status", "200", "content-length", "+3") }}, false, http2.ErrCodeProtocol},
		"head over the limit": {[]step{func(o *origin) []byte {
			p := o.headers(1, end, ":status", "200", "a", strings.Repeat("~", 4000))
			return p
		}}, false, http2.ErrCodeProtocol},
		"body too long":    {[]step{func(o *origin) []byte { return o.headers(1, 0, ":status", "200", "content-length", "3") }, func(*origin) []byte { return raw(frame.Data, end, 1, "four") }}, false, http2.ErrCodeProtocol},
		"body too short":   {[]step{func(o *origin) []byte { return o.headers(1, 0, ":status", "200", "content-length", "3") }, func(*origin) []byte { return raw(frame.Data, end, 1, "ab") }}, false, http2.ErrCodeProtocol},
		"head too short":   {[]step{func(o *origin) []byte { return o.headers(1, end, ":status", "200", "content-length", "3") }}, false, http2.ErrCodeProtocol},
		"body first":       {[]step{func(*origin) []byte { return raw(frame.Data, end, 1, "x") }}, false, http2.ErrCodeProtocol},
		"trailers open":    {[]step{ok, func(o *origin) []byte { return o.headers(1, 0, "a", "b") }}, false, http2.ErrCodeProtocol},
		"status below":     {[]step{ok, func(o *origin) []byte { return o.headers(1, end, ":status", "200") }}, false, http2.ErrCodeProtocol},
		"length below":     {[]step{ok, func(o *origin) []byte { return o.headers(1, end, "content-length", "3") }}, false, http2.ErrCodeProtocol},
		"window of 0":      {[]step{func(*origin) []byte { return raw(frame.WindowUpdate, 0, 1, "\x00\x00\x00\x00") }}, false, http2.ErrCodeProtocol},
		"window overflows": {[]step{func(*origin) []byte { return raw(frame.WindowUpdate, 0, 1, "\x7f\xff\xff\xff") }}, false, http2.ErrCodeFlowControl},

		"bad compression":    {[]step{func(*origin) []byte { return raw(frame.Headers, frame.EndHeaders, 1, "\x80") }}, true, http2.ErrCodeCompression},
		"frame too large":    {[]step{func(*origin) []byte { return frame.Append(nil, frame.Header{Length: 16385, Stream: 1}) }}, true, http2.ErrCodeFrameSize},
		"stream not opened":  {[]step{func(o *origin) []byte { return o.headers(3, end, ":status", "200") }}, true, http2.ErrCodeProtocol},
		"stream of a server": {[]step{func(*origin) []byte { return raw(frame.Data, 0, 2, "x") }}, true, http2.ErrCodeProtocol},
		"push":               {[]step{func(*origin) []byte { return raw(frame.PushPromise, frame.EndHeaders, 1, "\x00\x00\x00\x02\x82") }}, true, http2.ErrCodeProtocol},
		"push enabled":       {[]step{func(*origin) []byte { return raw(frame.Settings, 0, 0, "\x00\x02\x00\x00\x00\x01") }}, true, http2.ErrCodeProtocol},
		"section interrupted": {[]step{func(*origin) []byte {
			return append(raw(frame.Headers, 0, 1, "\x88"), raw(frame.Ping, 0, 0, "12345678")...)
		}}, true, http2.ErrCodeProtocol},
		"stray continuation": {[]step{func(*origin) []byte { return raw(frame.Continuation, frame.EndHeaders, 1, "\x88") }}, true, http2.ErrCodeProtocol},
		"endless continuation": {[]step{func(*origin) []byte {
			return append(raw(frame.Headers, 0, 1, "\x88"), bytes.Repeat(raw(frame.Continuation, 0, 1, ""), 100)...)
		}}, true, http2.ErrCodeEnhanceYourCalm},
		"large continuation": {[]step{func(*origin) []byte {
			return append(raw(frame.Headers, 0, 1, "\x88"), bytes.Repeat(raw(frame.Continuation, 0, 1, strings.Repeat("\x88", 1000)), 10)...)
		}}, true, http2.ErrCodeEnhanceYourCalm},
		"flood of pings":       {[]step{func(*origin) []byte { return bytes.Repeat(raw(frame.Ping, 0, 0, "12345678"), maxJunk+10) }}, true, http2.ErrCodeEnhanceYourCalm},
		"flood of settings":    {[]step{func(*origin) []byte { return bytes.Repeat(raw(frame.Settings, 0, 0, ""), maxJunk+10) }}, true, http2.ErrCodeEnhanceYourCalm},
		"flood of empty data":  {[]step{ok, func(*origin) []byte { return bytes.Repeat(raw(frame.Data, 0, 1, ""), maxJunk+10) }}, true, http2.ErrCodeEnhanceYourCalm},
		"flood of the unknown": {[]step{func(*origin) []byte { return bytes.Repeat(raw(0xaa, 0, 1, "x"), maxJunk+10) }}, true, http2.ErrCodeEnhanceYourCalm},
	} {
		t.Run(name, func(t *testing.T) {
			conn, o := against(t, Limits{Head: 4000})
			var work sync.WaitGroup
			work.Go(func() {
				next[*http2.MetaHeadersFrame](t, o)
				o.write(raw(frame.Settings, 0, 0, ""))
				for _, s := range c.steps {
					o.write(s(o))
				}
				if !c.whole { // others go on
					second := next[*http2.MetaHeadersFrame](t, o)
					o.write(o.headers(second.StreamID, end, ":status", "204"))
				}
			})
			_, _, err := fetch(t, conn, ask("GET", "/"))
			f, ok := errors.AsType[*fault.Error](err)
			why, known := errors.AsType[*frame.Error](err)
			if !ok || f.Side != fault.Origin || f.Kind != fault.Malformed || f.Retry || !known || uint32(why.Code) != uint32(c.code) || (why.Stream == 0) != c.whole {
				t.Errorf("%v (%+v), want %v, the connection's end %v", err, f, c.code, c.whole)
			}
			if c.whole {
				if conn.Capacity() != 0 {
					t.Error("the connection takes more requests")
				}
				work.Wait()
				return
			}
			if status, _, err := fetch(t, conn, ask("GET", "/")); status != 204 {
				t.Errorf("the next request: %d, %v", status, err)
			}
			work.Wait()
		})
	}
}

func TestStreamErrorsAreTold(t *testing.T) {
	c, o := against(t, Limits{})
	var work sync.WaitGroup
	work.Go(func() {
		next[*http2.MetaHeadersFrame](t, o)
		o.write(o.headers(1, 0, ":status", "200", "content-length", "3"))
		o.write(raw(frame.Data, frame.EndStream, 1, "ab"))
	})
	if _, _, err := fetch(t, c, ask("GET", "/")); err == nil {
		t.Error("a short body passes")
	}
	work.Wait()
	if x := next[*http2.RSTStreamFrame](t, o); x.StreamID != 1 || x.ErrCode != http2.ErrCodeProtocol {
		t.Errorf("told %v", x)
	}
}

func TestMoreThanTheWindowAllows(t *testing.T) {
	c, o := against(t, Limits{})
	go func() {
		next[*http2.MetaHeadersFrame](t, o)
		o.write(o.headers(1, 0, ":status", "200"))
		o.write(bytes.Repeat(raw(frame.Data, 0, 1, strings.Repeat("x", 16<<10)), 5))
	}()
	var res msg.Response
	if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
		t.Fatal(err)
	}
	if x := next[*http2.RSTStreamFrame](t, o); x.ErrCode != http2.ErrCodeFlowControl {
		t.Errorf("told %v", x)
	}
	n, err := io.Copy(io.Discard, res.Body)
	if f := fault.As(err); n != firstWindow || f.Kind != fault.Malformed {
		t.Errorf("%d bytes, then %v", n, err)
	}
	res.Close()
}

// What an origin sends behind an answer that has no body is nobody's.
func TestABodyWhereNoneCanBe(t *testing.T) {
	c, o := against(t, Limits{})
	var work sync.WaitGroup
	work.Go(func() {
		for _, lines := range [][]string{{":status", "204"}, {":status", "304", "content-length", "9"}, {":status", "200", "content-length", "9"}} {
			h := next[*http2.MetaHeadersFrame](t, o)
			o.write(o.headers(h.StreamID, 0, lines...))
			o.write(raw(frame.Data, frame.EndStream, h.StreamID, "HTTP/1.1 "))
		}
	})
	for _, method := range []string{"GET", "GET", "HEAD"} {
		if _, body, err := fetch(t, c, ask(method, "/")); body != "" || err != nil {
			t.Errorf("%s: body %q, %v", method, body, err)
		}
	}
	work.Wait()
}

func TestGivingUpIsTold(t *testing.T) {
	c, o := against(t, Limits{})
	var work sync.WaitGroup
	work.Go(func() {
		next[*http2.MetaHeadersFrame](t, o)
		o.write(o.headers(1, 0, ":status", "200"))
	})
	var res msg.Response
	if err := c.Do(t.Context(), ask("GET", "/"), nil, &res); err != nil {
		t.Fatal(err)
	}
	body := res.Body
	res.Close()
	work.Wait()
	if x := next[*http2.RSTStreamFrame](t, o); x.StreamID != 1 || x.ErrCode != http2.ErrCodeCancel {
		t.Errorf("told %v", x)
	}
	if _, err := body.Read(make([]byte, 1)); err == nil {
		t.Error("a closed body is read")
	}
	// What was on its way is taken and given back.
	o.write(raw(frame.Data, 0, 1, "late"))
	o.write(raw(frame.Ping, 0, 0, "12345678"))
	if x := next[*http2.PingFrame](t, o); !x.IsAck() {
		t.Errorf("got %v", x)
	}
}

func TestGoAwayLetsTheOlderEnd(t *testing.T) {
	c, o := against(t, Limits{})
	var work sync.WaitGroup
	work.Go(func() {
		next[*http2.MetaHeadersFrame](t, o)
		next[*http2.MetaHeadersFrame](t, o)
		o.write(raw(frame.GoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00"))
		o.write(o.headers(1, frame.EndStream, ":status", "204"))
	})
	results := make(chan error, 2)
	work.Go(func() {
		status, _, err := fetch(t, c, ask("GET", "/"))
		if err == nil && status != 204 {
			err = fmt.Errorf("status %d", status)
		}
		results <- err
	})
	work.Go(func() {
		_, _, err := fetch(t, c, ask("POST", "/"))
		results <- err
	})
	refused := 0
	for range 2 {
		if err := <-results; errors.Is(err, ErrUnprocessed) && fault.As(err).Retry {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	work.Wait()
	if refused != 1 || c.Capacity() != 0 {
		t.Errorf("%d requests were not processed, want 1; capacity %d", refused, c.Capacity())
	}
}

func TestSettingsAreObeyed(t *testing.T) {
	c, o := against(t, Limits{})
	o.write(frame.AppendSettings(nil,
		frame.Param{Name: frame.MaxConcurrentStreams, Value: 1}, frame.Param{Name: frame.InitialWindowSize, Value: 10},
		frame.Param{Name: frame.HeaderTableSize, Value: 0}, frame.Param{Name: frame.MaxHeaderListSize, Value: 1000}))
	if can, err := c.Upgrades(t.Context()); can || err != nil {
		t.Errorf("upgrades %v, %v", can, err)
	}
	if c.Capacity() != 1 {
		t.Errorf("capacity %d, want 1", c.Capacity())
	}
	req := ask("POST", "/")
	req.Length = 25
	var work sync.WaitGroup
	work.Go(func() {
		status, body := get(t, c, req, strings.NewReader("abcdefghijklmnopqrstuvwxy"))
		if status != 200 || body != "fine" {
			t.Errorf("%d %q", status, body)
		}
	})
	if h := next[*http2.MetaHeadersFrame](t, o); h.StreamID != 1 || h.StreamEnded() {
		t.Errorf("%v", h)
	}
	if d := next[*http2.DataFrame](t, o); string(d.Data()) != "abcdefghij" {
		t.Errorf("sent %q", d.Data())
	}
	if _, _, err := fetch(t, c, ask("GET", "/")); !errors.Is(err, ErrUnprocessed) {
		t.Errorf("a second request: %v", err)
	}
	o.write(frame.AppendSettings(nil, frame.Param{Name: frame.InitialWindowSize, Value: 20}))
	if d := next[*http2.DataFrame](t, o); string(d.Data()) != "klmnopqrst" {
		t.Errorf("sent %q", d.Data())
	}
	o.write(frame.AppendWindowUpdate(nil, 1, 5))
	if d := next[*http2.DataFrame](t, o); string(d.Data()) != "uvwxy" || !d.StreamEnded() {
		t.Errorf("sent %q, ended %v", d.Data(), d.StreamEnded())
	}
	o.write(o.headers(1, 0, ":status", "200"))
	o.write(raw(frame.Data, frame.EndStream|frame.Padded, 1, "\x03fine..."))
	work.Wait()
	_, _, err := fetch(t, c, ask("GET", "/", "A: "+strings.Repeat("x", 900)))
	if f := fault.As(err); f.Side != fault.Visitor || f.Kind != fault.TooLarge {
		t.Errorf("a head over the origin's limit: %+v", f)
	}
}

func TestExtendedConnect(t *testing.T) {
	c, o := against(t, Limits{})
	req := ask("GET", "/chat", "Sec-WebSocket-Key: k", "Sec-WebSocket-Version: 13")
	req.Upgrade = []byte("websocket")
	var res msg.Response
	o.write(frame.AppendSettings(nil))
	if can, err := c.Upgrades(t.Context()); can || err != nil {
		t.Errorf("upgrades %v, %v", can, err)
	}
	if err := c.Do(t.Context(), req, nil, &res); !errors.Is(err, ErrNoConnect) || !errors.Is(err, ErrHTTP11) || !errors.Is(err, ErrUnprocessed) {
		t.Errorf("without the setting: %v", err)
	}
	o.write(frame.AppendSettings(nil, frame.Param{Name: frame.EnableConnect, Value: 1}))
	o.write(raw(frame.Ping, 0, 0, "12345678"))
	next[*http2.PingFrame](t, o)
	var work sync.WaitGroup
	work.Go(func() {
		h := next[*http2.MetaHeadersFrame](t, o)
		if h.PseudoValue("method") != "CONNECT" || h.PseudoValue("protocol") != "websocket" || h.PseudoValue("path") != "/chat" || h.PseudoValue("scheme") != "https" {
			t.Errorf("asked %v", h.Fields)
		}
		for _, f := range h.RegularFields() {
			if f.Name == "sec-websocket-key" {
				t.Error("the key is sent")
			}
		}
		o.write(o.headers(h.StreamID, 0, ":status", "200"))
		if d := next[*http2.DataFrame](t, o); string(d.Data()) != "ping" {
			t.Errorf("got %q", d.Data())
		}
		o.write(raw(frame.Data, 0, h.StreamID, "pong"))
		if d := next[*http2.DataFrame](t, o); !d.StreamEnded() {
			t.Error("our half is not closed")
		}
		o.write(raw(frame.Data, frame.EndStream, h.StreamID, "bye"))
	})
	if err := c.Do(t.Context(), req, nil, &res); err != nil || res.Status != 101 || res.Tunnel == nil {
		t.Fatalf("status %d, %v", res.Status, err)
	}
	if _, err := io.WriteString(res.Tunnel, "ping"); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4)
	if _, err := io.ReadFull(res.Tunnel, p); err != nil || string(p) != "pong" {
		t.Errorf("got %q, %v", p, err)
	}
	if err := res.Tunnel.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Error(err)
	}
	if p, err := io.ReadAll(res.Tunnel); err != nil || string(p) != "bye" {
		t.Errorf("rest %q, %v", p, err)
	}
	work.Wait()
	res.Close()
	if len(c.streams) != 0 {
		t.Error("the stream is left")
	}
}

// A tunnel that is closed wakes who reads and writes.
func TestClosingATunnelEndsItsWaits(t *testing.T) {
	c, o := against(t, Limits{})
	o.write(frame.AppendSettings(nil, frame.Param{Name: frame.EnableConnect, Value: 1}, frame.Param{Name: frame.InitialWindowSize, Value: 4}))
	if can, err := c.Upgrades(t.Context()); !can || err != nil {
		t.Fatalf("upgrades %v, %v", can, err)
	}
	req := ask("GET", "/chat")
	req.Upgrade = []byte("websocket")
	var res msg.Response
	go func() { o.write(o.headers(next[*http2.MetaHeadersFrame](t, o).StreamID, 0, ":status", "200")) }()
	if err := c.Do(t.Context(), req, nil, &res); err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		if _, err := res.Tunnel.Read(make([]byte, 10)); err == nil {
			t.Error("a read that brings nothing")
		}
	})
	far := res.Tunnel
	work.Go(func() {
		if _, err := far.Write(make([]byte, 10)); err == nil {
			t.Error("a write beyond the window")
		}
	})
	next[*http2.DataFrame](t, o)
	_ = far.Close()
	work.Wait()
}

func TestTimeouts(t *testing.T) {
	for _, c := range []struct {
		name string
		say  string // what the origin answers, frame by frame
		pong bool   // it answers PING
		kind fault.Kind
		took time.Duration
		ends bool // the connection too
	}{
		{"silent", "", false, fault.Timeout, 30 * time.Second, true},
		{"alive without a head", "", true, fault.Timeout, 100 * time.Second, false},
		{"alive without a body", "h", true, fault.Timeout, 100 * time.Second, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			conn, o := against(t, Limits{})
			var work sync.WaitGroup
			work.Go(func() {
				for x := range o.frames {
					switch x := x.(type) {
					case *http2.MetaHeadersFrame:
						if c.say != "" {
							o.write(o.headers(x.StreamID, 0, ":status", "200"))
						}
					case *http2.PingFrame:
						if c.pong {
							o.write(frame.AppendPing(nil, true, x.Data))
						}
					}
				}
			})
			start := time.Now()
			_, _, err := fetch(t, conn, ask("GET", "/"))
			f := fault.As(err)
			if f.Side != fault.Origin || f.Kind != c.kind || time.Since(start) != c.took || (conn.Capacity() == 0) != c.ends {
				t.Errorf("%s: %v after %s, capacity %d", c.name, err, time.Since(start), conn.Capacity())
			}
			_ = conn.Close()
			_ = o.nc.Close()
			work.Wait()
		})
	}
}

// A connection that died without a word while it was idle is found out by the
// next request, which may be sent again.
func TestAConnectionThatDiedWhileIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o := against(t, Limits{})
		var work sync.WaitGroup
		work.Go(func() {
			h := next[*http2.MetaHeadersFrame](t, o)
			o.write(o.headers(h.StreamID, frame.EndStream, ":status", "204"))
		})
		if status, _, err := fetch(t, c, ask("GET", "/")); status != 204 {
			t.Errorf("%d, %v", status, err)
		}
		time.Sleep(time.Hour)
		start := time.Now()
		_, _, err := fetch(t, c, ask("GET", "/"))
		if f := fault.As(err); !f.Retry || f.Kind != fault.Timeout || time.Since(start) != 30*time.Second || c.Capacity() != 0 {
			t.Errorf("%+v after %s", f, time.Since(start))
		}
		_ = c.Close()
		_ = o.nc.Close()
		work.Wait()
	})
}

// An origin that takes nothing of a body ends that request after WriteTimeout.
func TestABodyThatIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, o := against(t, Limits{})
		o.write(frame.AppendSettings(nil, frame.Param{Name: frame.InitialWindowSize, Value: 5}))
		if _, err := c.Upgrades(t.Context()); err != nil {
			t.Fatal(err)
		}
		var work sync.WaitGroup
		work.Go(func() {
			for x := range o.frames {
				if x, ok := x.(*http2.PingFrame); ok {
					o.write(frame.AppendPing(nil, true, x.Data))
				}
			}
		})
		req := ask("POST", "/")
		req.Length = 10
		var res msg.Response
		start := time.Now()
		err := c.Do(t.Context(), req, strings.NewReader("0123456789"), &res)
		if f := fault.As(err); f.Kind != fault.Timeout || time.Since(start) != 30*time.Second || c.Capacity() == 0 {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		_ = c.Close()
		_ = o.nc.Close()
		work.Wait()
	})
}

// FuzzAnswers gives a client what an origin never should send. Whatever it is,
// each request ends, nothing is left, and a body that ends in order has the
// length that was announced.
func FuzzAnswers(f *testing.F) {
	o := &origin{}
	o.enc = hpack.NewEncoder(&o.block)
	f.Add(append(raw(frame.Settings, 0, 0, ""), append(o.headers(1, 0, ":status", "200", "content-length", "4"), raw(frame.Data, frame.EndStream, 1, "body")...)...))
	f.Add(append(o.headers(1, 0, ":status", "103", "link", "</a>"), o.headers(1, frame.EndStream, ":status", "204")...))
	f.Add(append(raw(frame.Headers, 0, 1, "\x88"), raw(frame.Continuation, frame.EndHeaders, 1, "\x40\x01a\x01b")...))
	f.Add(raw(frame.GoAway, 0, 0, "\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Add(raw(frame.WindowUpdate, 0, 0, "\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		near, far := net.Pipe()
		c := New(near, Limits{Head: 2000})
		var work sync.WaitGroup
		work.Go(func() { _, _ = io.Copy(io.Discard, far) })
		work.Go(func() {
			_, _ = far.Write(answer)
			_ = far.Close()
		})
		for range 2 {
			req := ask("POST", "/")
			req.Length = 3
			var res msg.Response
			if err := c.Do(t.Context(), req, strings.NewReader("abc"), &res); err != nil {
				if f := fault.As(err); f.Side == fault.Edge {
					t.Errorf("%v blames us", err)
				}
				continue
			}
			if res.Body != nil {
				n, err := io.Copy(io.Discard, res.Body)
				if err == nil && res.Length >= 0 && n != res.Length {
					t.Errorf("%d bytes of %d", n, res.Length)
				}
			}
			for _, l := range res.Fields.All() {
				if bytes.ContainsAny(l.Value, "\r\n\x00") || bytes.ContainsAny(l.Name, "\r\n\x00: ") {
					t.Errorf("%q: %q comes through", l.Name, l.Value)
				}
			}
			res.Close()
		}
		_ = c.Close()
		work.Wait()
		if len(c.streams) != 0 {
			t.Errorf("%d streams are left", len(c.streams))
		}
	})
}
