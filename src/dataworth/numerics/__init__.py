"""Pure array maths: reference kernels in numpy and scipy; torch twins live in `probes` with parity tests."""
