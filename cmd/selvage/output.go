package main

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}
