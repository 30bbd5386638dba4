using System.Runtime.InteropServices;
using GemmaServer.Compute;
using Iced.Intel;

namespace GemmaServer.Tests;

/// <summary>What a processor would raise, or what this emulator does not know.</summary>
internal sealed class EmulatedFaultException(string message) : Exception(message);

/// <summary>
/// Runs assembled code on machines without its instructions: decodes the bytes and does to real memory what Intel's manual
/// (volume 2, "Operation" of each instruction) says. Only what the kernels use; anything else is a fault, and so is memory that
/// was not allowed.
/// </summary>
internal sealed unsafe partial class AmxEmulator : IDisposable
{
    private const int StackBytes = 16384;
    private const ulong ReturnAddress = 0x5AFE;

    private readonly Dictionary<ulong, Instruction> _decoded = [];
    private readonly List<(ulong From, ulong To, bool Writable)> _memory = [];
    private readonly ulong[] _registers = new ulong[16];
    private readonly byte* _stack = (byte*)NativeMemory.AlignedAlloc(StackBytes, 64);
    private readonly byte* _code;
    private readonly int _codeBytes;
    private ulong _next, _junk;
    private bool _zero;

    public AmxEmulator(Assembler assembler)
    {
        using MemoryStream code = new();
        assembler.Assemble(new StreamCodeWriter(code), 0);
        _codeBytes = (int)code.Length;
        // Anywhere: the code must not depend on its place.
        _code = (byte*)NativeMemory.AlignedAlloc((nuint)_codeBytes, 64);
        code.ToArray().CopyTo(new Span<byte>(_code, _codeBytes));
        Allow(_stack, StackBytes, writable: true);
        Allow(_code, _codeBytes, writable: false);
    }

    /// <summary>How often each instruction ran.</summary>
    public Dictionary<Mnemonic, int> Counts { get; } = [];

    /// <summary>The code up to its return, in the order of its bytes.</summary>
    public List<Instruction> Listing()
    {
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(new Span<byte>(_code, _codeBytes).ToArray()), (ulong)_code);
        List<Instruction> listing = [];
        while (listing.Count == 0 || listing[^1].Mnemonic != Mnemonic.Ret) listing.Add(decoder.Decode());
        return listing;
    }

    /// <summary>Replaces an instruction by ones that do nothing.</summary>
    public void LeaveOut(Instruction instruction) => new Span<byte>((byte*)instruction.IP, instruction.Length).Fill(0x90);

    /// <summary>Memory that the code may touch.</summary>
    public void Allow(void* from, long bytes, bool writable) => _memory.Add(((ulong)from, (ulong)from + (ulong)bytes, writable));

    /// <summary>All memory, where it is not known whose it is.</summary>
    public void AllowEverything() => _memory.Add((4096, 1ul << 47, true));

    /// <summary>Calls the code from its first byte, as System V calls a function of one argument.</summary>
    public void Call(void* argument)
    {
        // Registers and stack hold anything at a call, and registers from this list must hold the same after it.
        Register[] kept = [Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15];
        for (int i = 0; i < 16; i++) _registers[i] = 0xBAD0_0000_0000_0000 + 16 * ++_junk;
        new Span<ulong>(_stack, StackBytes / 8).Fill(0xBAD1_0000_0000_0000 + _junk);
        FillVectors();
        this[Register.RDI] = (ulong)argument;
        // A call leaves rsp 8 off a multiple of 16.
        ulong top = (ulong)_stack + StackBytes - 64;
        this[Register.RSP] = top - 8;
        *(ulong*)(top - 8) = ReturnAddress;
        ulong[] before = [.. kept.Select(r => this[r])];
        for (_next = (ulong)_code; _next != ReturnAddress;) Step();
        Assert.Equal(before, kept.Select(r => this[r]));
        Assert.Equal(top, this[Register.RSP]);
        Assert.False(_configured, "Tile state stays behind.");
        Assert.False(_uppersInUse, "The upper halves of vectors stay in use.");
    }

    ~AmxEmulator() => Free();

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(_stack);
        NativeMemory.AlignedFree(_code);
    }

    private ulong this[Register register]
    {
        get => register.IsGPR32() ? (uint)_registers[register - Register.EAX] : register.IsGPR64() ? _registers[register - Register.RAX] : throw Unknown($"register {register}");
        set
        {
            // Writing the lower half clears the upper.
            if (register.IsGPR32()) _registers[register - Register.EAX] = (uint)value;
            else if (register.IsGPR64()) _registers[register - Register.RAX] = value;
            else throw Unknown($"register {register}");
        }
    }

    private static EmulatedFaultException Unknown(string what) => new($"The emulator does not know {what}.");

    private void Step()
    {
        if (!_decoded.TryGetValue(_next, out Instruction i))
        {
            if (_next < (ulong)_code || _next >= (ulong)_code + (ulong)_codeBytes) throw new EmulatedFaultException("#PF: left the code.");
            int at = (int)(_next - (ulong)_code);
            Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(new Span<byte>(_code + at, _codeBytes - at).ToArray()), _next);
            decoder.Decode(out i);
            if (i.IsInvalid) throw new EmulatedFaultException("#UD: no instruction.");
            _decoded[_next] = i;
        }
        _next = i.NextIP;
        Counts[i.Mnemonic] = Counts.GetValueOrDefault(i.Mnemonic) + 1;
        if (!TryScalar(in i) && !TryVector(in i) && !TryTile(in i)) throw Unknown(i.ToString());
    }

    private bool TryScalar(in Instruction i)
    {
        switch (i.Mnemonic)
        {
            case Mnemonic.Nop: break;
            case Mnemonic.Mov: Write(in i, Value(in i, 1)); break;
            case Mnemonic.Lea: this[i.Op0Register] = Address(in i, 1); break;
            case Mnemonic.Add: Result(in i, Value(in i, 0) + Value(in i, 1)); break;
            case Mnemonic.Sub: Result(in i, Value(in i, 0) - Value(in i, 1)); break;
            case Mnemonic.And: Result(in i, Value(in i, 0) & Value(in i, 1)); break;
            case Mnemonic.Dec: Result(in i, Value(in i, 0) - 1); break;
            case Mnemonic.Test: _zero = (Value(in i, 0) & Value(in i, 1)) == 0; break;
            case Mnemonic.Je: if (_zero) _next = i.NearBranchTarget; break;
            case Mnemonic.Jne: if (!_zero) _next = i.NearBranchTarget; break;
            case Mnemonic.Jmp: _next = i.NearBranchTarget; break;
            case Mnemonic.Push: this[Register.RSP] -= 8; *(ulong*)Check(this[Register.RSP], 8, write: true) = this[i.Op0Register]; break;
            case Mnemonic.Pop: this[i.Op0Register] = Pop(); break;
            case Mnemonic.Ret: _next = Pop(); break;
            default: return false;
        }
        return true;
    }

    private ulong Pop()
    {
        ulong value = *(ulong*)Check(this[Register.RSP], 8, write: false);
        this[Register.RSP] += 8;
        return value;
    }

    private void Result(in Instruction i, ulong value)
    {
        if (!i.Op0Register.IsGPR64()) throw Unknown(i.ToString());
        Write(in i, value);
        _zero = value == 0;
    }

    private void Write(in Instruction i, ulong value) => this[i.Op0Kind == OpKind.Register ? i.Op0Register : throw Unknown(i.ToString())] = value;

    private ulong Value(in Instruction i, int operand) => i.GetOpKind(operand) switch
    {
        OpKind.Register => this[i.GetOpRegister(operand)],
        OpKind.Memory => i.MemorySize.GetSize() == 8 ? *(ulong*)Check(Address(in i, operand), 8, write: false) : throw Unknown(i.ToString()),
        _ => i.GetImmediate(operand),
    };

    private ulong Address(in Instruction i, int operand) =>
        i.GetVirtualAddress(operand, 0, (register, _, _) => register.IsSegmentRegister() ? 0 : this[register]);

    private byte* Memory(in Instruction i, int operand, int bytes, bool write) => Check(Address(in i, operand), bytes, write);

    private byte* Check(ulong address, int bytes, bool write)
    {
        foreach ((ulong from, ulong to, bool writable) in _memory)
            if (address >= from && address + (ulong)bytes <= to && (writable || !write)) return (byte*)address;
        throw new EmulatedFaultException($"#PF: {(write ? "writes" : "reads")} {bytes} bytes at {address:x} that do not belong to it.");
    }
}
