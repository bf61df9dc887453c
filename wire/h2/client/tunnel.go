package client

// tunnel is an origin's side of an upgraded stream, without time-outs of its
// own: who copies has them. Close ends what waits.
type tunnel struct{ st *stream }

func (t tunnel) Read(p []byte) (int, error) { return t.st.read(p, 0) }

func (t tunnel) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := t.st.sendData(p, false, 0); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t tunnel) CloseWrite() error { return t.st.sendData(nil, true, 0) }

func (t tunnel) Close() error {
	t.st.finish()
	return nil
}
