using System.Runtime.CompilerServices;

namespace GemmaServer.Compute;

// Byte arrays inside a block; an inline array converts to a span without pinning.
#pragma warning disable IDE0044, IDE0051 // The one field is the array's first element.

[InlineArray(4)]
internal struct Bytes4 { private byte _first; }

[InlineArray(12)]
internal struct Bytes12 { private byte _first; }

[InlineArray(16)]
internal struct Bytes16 { private byte _first; }

[InlineArray(32)]
internal struct Bytes32 { private byte _first; }

[InlineArray(64)]
internal struct Bytes64 { private byte _first; }

[InlineArray(128)]
internal struct Bytes128 { private byte _first; }
