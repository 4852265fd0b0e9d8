"""Batch normalisation over the batches of all processes of a training, which a GPU's multiprocessors share."""

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the batches of `num_processes` processes, on any device.

    PyTorch's own SyncBatchNorm does not run on a CPU, and its kernels give each channel one multiprocessor of a GPU,
    where SLS has one channel. The mean is reduced before the squares are summed about it, so that a large mean costs
    no digits. Each process has equally many elements.
    """

    num_processes = 1

    def forward(self, x: Tensor) -> Tensor:
        """Normalises `(batch, channels, height, width)`, in training by the statistics of all processes."""
        if not self.training or (x.device.type == "cpu" and self.num_processes == 1):
            return super().forward(x)
        count = x.numel() // x.shape[1] * self.num_processes
        values = x.float()
        mean = self._over_processes(values.sum(dim=(0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = self._over_processes(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            assert self.running_mean is not None  # it tracks running statistics
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        normal = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        return (normal * self.weight[:, None, None] + self.bias[:, None, None]).to(x.dtype)

    def _over_processes(self, sums: Tensor) -> Tensor:
        return all_reduce(sums) if self.num_processes > 1 else sums
