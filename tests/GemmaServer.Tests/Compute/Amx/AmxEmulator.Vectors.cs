using Iced.Intel;

namespace GemmaServer.Tests;

/// <summary>512-bit registers and masks.</summary>
internal sealed unsafe partial class AmxEmulator
{
    private readonly int[][] _vectors = [.. Enumerable.Range(0, 32).Select(static _ => new int[16])];
    private readonly uint[] _masks = new uint[8];
    private bool _uppersInUse;

    /// <summary>Signalling patterns, so that a register used before it is set shows in the results.</summary>
    private void FillVectors()
    {
        for (int v = 0; v < 32; v++) Array.Fill(_vectors[v], 0x7FBA0000 + v);
        Array.Fill(_masks, 0u);
        _uppersInUse = false;
    }

    private bool TryVector(in Instruction i)
    {
        if (i.Mnemonic != Mnemonic.Vmovdqu32 && i.OpMask != Register.None) throw Unknown($"a mask at {i}");
        if (i.IsBroadcast || i.RoundingControl != RoundingControl.None) throw Unknown(i.ToString());
        int[] to = i.Op0Kind == OpKind.Register && i.Op0Register.IsZMM() ? _vectors[i.Op0Register - Register.ZMM0] : [];
        switch (i.Mnemonic)
        {
            case Mnemonic.Kmovd:
                _masks[i.Op0Register - Register.K0] = (uint)this[i.Op1Register];
                return true;
            case Mnemonic.Vzeroupper:
                // Registers from 16 on stay as they are.
                for (int v = 0; v < 16; v++) Array.Clear(_vectors[v], 4, 12);
                _uppersInUse = false;
                return true;
            case Mnemonic.Vmovups when i.Op0Kind == OpKind.Memory:
                new Span<int>(Vector(i.Op1Register)).CopyTo(new Span<int>(Memory(in i, 0, 64, write: true), 16));
                return true;
            case Mnemonic.Vmovups:
                Source(in i, 1).CopyTo(to, 0);
                break;
            case Mnemonic.Vmovdqu32:
                LoadMasked(in i, to);
                break;
            case Mnemonic.Vpxord:
                Lanes(to, Source(in i, 1), Source(in i, 2), static (a, b) => a ^ b);
                break;
            case Mnemonic.Vpbroadcastd:
                Array.Fill(to, (int)this[i.Op1Register]);
                break;
            case Mnemonic.Vbroadcastss:
                Array.Fill(to, *(int*)Memory(in i, 1, 4, write: false));
                break;
            case Mnemonic.Vpmaddwd:
                Lanes(to, Source(in i, 1), Source(in i, 2), static (a, b) => (short)a * (short)b + (a >> 16) * (b >> 16));
                break;
            case Mnemonic.Vcvtdq2ps:
                Lanes(to, Source(in i, 1), Source(in i, 1), static (a, _) => Bits(a));
                break;
            case Mnemonic.Vmulps:
                Lanes(to, Source(in i, 1), Source(in i, 2), static (a, b) => Bits(Float(a) * Float(b)));
                break;
            case Mnemonic.Vfmadd231ps:
                int[] sums = [.. to], first = Source(in i, 1), second = Source(in i, 2);
                for (int n = 0; n < 16; n++) to[n] = Bits(MathF.FusedMultiplyAdd(Float(first[n]), Float(second[n]), Float(sums[n])));
                break;
            default: return false;
        }
        if (to.Length == 0) throw Unknown(i.ToString());
        _uppersInUse = true;
        return true;
    }

    private static float Float(int bits) => BitConverter.Int32BitsToSingle(bits);

    private static int Bits(float value) => BitConverter.SingleToInt32Bits(value);

    private static void Lanes(int[] to, int[] a, int[] b, Func<int, int, int> operation)
    {
        // Sources may be the target: each lane is read before it is written.
        for (int n = 0; n < to.Length; n++) to[n] = operation(a[n], b[n]);
    }

    private int[] Vector(Register register) => register.IsZMM() ? _vectors[register - Register.ZMM0] : throw Unknown($"register {register}");

    private int[] Source(in Instruction i, int operand) =>
        i.GetOpKind(operand) == OpKind.Register ? Vector(i.GetOpRegister(operand)) : new Span<int>(Memory(in i, operand, 64, write: false), 16).ToArray();

    /// <summary>Lanes that the mask leaves out are not read from memory, and become zero.</summary>
    private void LoadMasked(in Instruction i, int[] to)
    {
        if (i.Op1Kind != OpKind.Memory || !i.ZeroingMasking || i.OpMask == Register.None) throw Unknown(i.ToString());
        ulong address = Address(in i, 1);
        for (int n = 0; n < 16; n++)
            to[n] = (_masks[i.OpMask - Register.K0] >> n & 1) != 0 ? *(int*)Check(address + 4 * (ulong)n, 4, write: false) : 0;
    }
}
