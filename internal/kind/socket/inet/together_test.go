package inet

// All connections of this package's tests are made by rings, as those of a large
// tree are. What a ring fails of is tried one by one, as all is where there is none.
func init() { fewTogether = 0 }
