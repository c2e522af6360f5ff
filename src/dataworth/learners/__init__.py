"""What gets trained: loading, rendering with loss masks, the trial trainer."""
