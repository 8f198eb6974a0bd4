"""One training step of the PyTorch peer on a GPU, in several variants of which the fastest counts.

What all variants share: the set resident on the device as bytes; gather, crop, flip and normalisation there; channels_last;
autocast; SGD fused, its rate a tensor on the device, so that a new rate recompiles and synchronises nothing; batch-norm
without its step counter; the loss summed on the device. The step's only input is the batch's image numbers, and no variant
waits for the device. Across processes: DistributedDataParallel with batch-norm statistics of each process's own.

A recorded step (Variant.graph) is one CUDA graph of everything from the gather to the optimiser. Tracing, tuning, warm-up and
recording train on whatever they are given: Step.reset puts back the weights of the beginning, in place, as the recording needs.
Used by ddp.py; works on a CPU too, for tests, without recording.
"""
import collections
import warnings

import torch
from torch import nn
from torch.nn import functional

import resnet_torch

Variant = collections.namedtuple("Variant", "compile graph")
VARIANTS = {
    "eager": Variant(None, False),
    "graph-eager": Variant(None, True),
    "compile": Variant("default", False),
    "graph-compile": Variant("default", True),
    # torch.compile's own graphs, one each of forward and backward; the optimiser's few kernels are launched beside them.
    "max-autotune": Variant("max-autotune", False),
    "graph-max-autotune": Variant("max-autotune-no-cudagraphs", True),
}
# DDP settles its buckets and samples its statistics in the first steps: PyTorch's notes ask for 11 before a recording.
WARM_UP_STEPS = 12


class PaddedStem(nn.Conv2d):
    """The first convolution with its input padded to 8 channels of zeros, for 16-byte accesses; the weight stays (K,3,3,3)."""

    @staticmethod
    def of(conv):
        padded = PaddedStem(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False)
        padded.weight = conv.weight
        return padded

    def forward(self, x):
        room = (0, 0, 0, 0, 0, 8 - self.in_channels)
        return functional.conv2d(functional.pad(x, room), functional.pad(self.weight, room), None, self.stride, self.padding)


class Step:
    """One variant of the step over `batcher`'s set. `processes` > 1 needs an initialised process group."""

    def __init__(self, variant, batcher, o, device, processes=1, augment=True, weights=None):
        self.variant, self.batcher, self.o, self.device = VARIANTS[variant], batcher, o, device
        self.augment = augment
        self.graph = None
        torch._dynamo.reset()  # what another variant compiled would count against the limit of recompilations
        torch.manual_seed(o.seed)
        self.model = resnet_torch.from_options(o)
        if weights is not None:
            self.model.load_state_dict(weights, strict=False)
        for module in self.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.num_batches_tracked = None  # a kernel per layer; only a momentum of None would read it
        if o.stem_pad == "yes":
            self.model.conv1 = PaddedStem.of(self.model.conv1)
        self.model.to(device=device, dtype=batcher.dtype, memory_format=torch.channels_last)
        self.network = self.model if processes == 1 else self.distributed()
        self.lr = torch.tensor(float(o.lr), device=device)
        self.optimizer = self.make_optimizer()
        self.loss_sum = torch.zeros((), dtype=batcher.dtype, device=device)
        self.index = torch.arange(o.batch // processes, device=device)
        for tensor in (batcher.images, batcher.labels, batcher.scale, batcher.shift):
            torch._dynamo.mark_static_address(tensor)  # else torch.compile's graphs copy the whole set every step
        self.loss_of = self.plain_loss
        if self.variant.compile is not None:
            self.loss_of = torch.compile(self.plain_loss, mode=self.variant.compile, dynamic=False)
        self.initial = [t.detach().clone() for t in self.state()]
        self.prepare()
        self.reset()
        # Each process its own crops; after the weights, which all draw alike.
        torch.manual_seed(o.seed * 1000003 + (torch.distributed.get_rank() if processes > 1 else 0))

    def distributed(self):
        ids = [self.device.index] if self.device.type == "cuda" else None
        arguments = dict(device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True,
                         static_graph=self.o.static_graph == "yes", bucket_cap_mb=self.o.bucket_cap_mb)
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)  # 2.15 has another name for it
        if self.device.type != "cuda":
            return nn.parallel.DistributedDataParallel(self.model, **arguments)
        stream = torch.cuda.Stream()  # a recorded DDP must have been made beside the default stream
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            network = nn.parallel.DistributedDataParallel(self.model, **arguments)
        torch.cuda.current_stream().wait_stream(stream)
        return network

    def make_optimizer(self):
        groups = resnet_torch.parameter_groups(self.model, self.o.weight_decay, self.o.decay_bn == "yes")
        optimizer = torch.optim.SGD(groups, lr=self.lr, momentum=self.o.momentum, nesterov=self.o.nesterov == "yes", fused=True)
        for group in optimizer.param_groups:
            group["lr"] = self.lr  # the very tensor, whatever the optimiser made of it
        return optimizer

    def plain_loss(self, index):
        x, y = self.batcher.augmented(index) if self.augment else self.batcher.picked(index)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.o.precision == "bf16"):
            logits = self.network(x)
        return functional.cross_entropy(logits.to(self.batcher.dtype), y, label_smoothing=self.o.label_smoothing)

    def train(self, index):
        """The step as it stands in the source; `run` is what to call."""
        if self.variant.compile == "max-autotune":
            torch.compiler.cudagraph_mark_step_begin()
        loss = self.loss_of(index)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.loss_sum.add_(loss.detach())

    def prepare(self):
        """Compiles, tunes, warms up and, if the variant says so, records."""
        if self.device.type != "cuda":
            if self.variant.graph:
                raise RuntimeError("a step can only be recorded on a GPU")
            self.train(self.index)
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                self.train(self.index)
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        if self.variant.graph:
            self.graph = torch.cuda.CUDAGraph()
            # The watchdog of the process group queries events from a thread of its own, which a global capture forbids.
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
                self.train(self.index)
            torch.cuda.synchronize()

    def run(self, index):
        """Trains on the images `index`, a tensor on the device. Waits for nothing."""
        if self.graph is None:
            self.train(index)
        else:
            self.index.copy_(index)
            self.graph.replay()

    def state(self):
        """All that training changes, but for momentum."""
        return list(self.model.parameters()) + list(self.model.buffers()) + [self.loss_sum]

    @torch.no_grad()
    def reset(self):
        for tensor, value in zip(self.state(), self.initial):
            tensor.copy_(value)
        for entry in self.optimizer.state.values():  # SGD's first step from zero momentum is its first step without
            if entry.get("momentum_buffer") is not None:
                entry["momentum_buffer"].zero_()

    @torch.no_grad()
    def evaluate(self, test, batch=2000):
        """The share of `test` that the network classifies rightly."""
        self.model.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.device)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.o.precision == "bf16"):
            for first in range(0, len(test.labels), batch):
                x, y = test.plain(first, min(first + batch, len(test.labels)))
                right += (self.model(x).argmax(1) == y).sum()
        self.model.train()
        return right.item() / len(test.labels)


def set_precision(precision):
    """tf32 is PyTorch's word for fp32 whose products are rounded to 10 bits; fp32 forbids it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions have another name for the same switch beside it
        torch.backends.cuda.matmul.allow_tf32 = precision != "fp32"
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark = True
