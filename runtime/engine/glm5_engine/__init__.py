"""What prefill and decode workers share: pages, scheduler, step loop, sampler."""
