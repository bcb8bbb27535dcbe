"""Every error a user can meet: one sentence that names the place, the value, the limit and the remedy."""


class LavaConvError(Exception):
    """Base of all errors raised on purpose; the command line prints it without a traceback, exit code 2."""


class ConversionError(LavaConvError):
    """A model or graph cannot be expressed as an integer spiking network."""


class NetFormatError(LavaConvError):
    """A `.net` file is damaged or breaks the schema; names the path inside the file."""


class RangeError(LavaConvError):
    """An integer does not fit its bit width; names the layer, the bound, the limit and the remedy."""


class FitError(LavaConvError):
    """A network does not fit the chip it was checked against."""


class BackendError(LavaConvError):
    """A backend is missing, failed or stopped moving."""


class DataError(LavaConvError):
    """Images, labels or a data set are not what the network or the reader expects."""
