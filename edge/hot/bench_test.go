package hot

import (
	"fmt"
	"testing"
)

// BenchmarkFind is a look-up of a host two labels below its zone, among many.
func BenchmarkFind(b *testing.B) {
	for _, count := range []int{1_000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			tab, names := NewTable[int](1<<40), &Names{}
			err := names.Build(count, func(add func(uint64)) error {
				for i := range count {
					name := fmt.Sprintf("zone%d.test", i)
					tab.Put(HashOf(name), name, &i, 1000, false)
					add(HashOf(name))
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			hosts := make([][]byte, 1024)
			for i := range hosts {
				hosts[i] = fmt.Appendf(nil, "a.www.zone%d.test", i*7919%count)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				var s Suffixes
				s.Set(hosts[i%len(hosts)])
				found := false
				for k := range s.Len() {
					name, hash := s.At(k)
					if tab.Find(hash, name) != nil {
						found = true
						break
					}
					if names.May(hash) {
						break
					}
				}
				_ = found
			}
		})
	}
}
