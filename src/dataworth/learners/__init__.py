"""What gets trained: loading, rendering with loss masks, the trial trainer. The only room besides `probes` that runs models."""
