"""Command-line options that the PyTorch peers share; the names and values are those of resnet-dp. Imports no PyTorch: a peer may
have to set its environment before that."""


def int_list(text):
    return tuple(int(v) for v in text.split(","))


def add_model(parser):
    parser.add_argument("--block", default="basic", choices=("basic", "bottleneck"))
    parser.add_argument("--blocks", type=int_list, default=(2, 1, 1, 1))
    parser.add_argument("--stem-width", type=int, default=64)
    parser.add_argument("--widths", type=int_list, default=(64, 128, 256, 512))
    parser.add_argument("--activation", default="relu", choices=("relu", "leaky-relu"))
    parser.add_argument("--leaky-slope", type=float, default=0.01)
    parser.add_argument("--shortcut", default="conv", choices=("conv", "pad"))


def add_training(parser):
    parser.add_argument("--batch", type=int, default=128, help="images per step, over all processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=0.2, help="the one-cycle schedule's maximum")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--nesterov", default="yes", choices=("yes", "no"))
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--data", help="directory of the official CIFAR-10 binaries; timing works without")
    parser.add_argument("--images", type=int, default=50000, help="random training images when timing without --data")
