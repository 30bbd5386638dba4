// NVRTC, as far as the server uses it: a program is compiled by g++ behind the shim, and its "machine code" is the shared library.
#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum { Success = 0, InvalidInput = 3, CompilationError = 6 };

struct Program {
    std::string name, text, log, image;
};

std::string read_file(const std::string& path)
{
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// Where this library and the shim lie.
std::string folder()
{
    Dl_info info;
    dladdr((void*)&folder, &info);
    std::string path = info.dli_fname;
    return path.substr(0, path.rfind('/'));
}

std::string balanced(const std::string& text, size_t open, size_t& end)
{
    int depth = 0;
    for (end = open; end < text.size(); end++) {
        if (text[end] == '(') depth++;
        if (text[end] == ')' && --depth == 0) break;
    }
    return text.substr(open + 1, end++ - open - 1);
}

// Takes the marks of kernels out of preprocessed text, and adds an entry for each.
std::string with_entries(std::string text)
{
    const std::string mark = "CUDA_ON_CPU_KERNEL", bounds = "CUDA_ON_CPU_BOUNDS";
    std::string entries;
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at)) {
        text.replace(at, mark.size(), mark.size(), ' ');
        std::string limit = "1024";
        size_t open = text.find('(', at), end;
        const size_t bound = text.find(bounds, at);
        if (bound < open) {
            limit = balanced(text, open, end);
            limit = limit.substr(0, limit.find(','));
            for (size_t i = bound; i < end; i++)
                if (text[i] != '\n') text[i] = ' ';
            open = text.find('(', at);
        }
        size_t stop = open;
        while (stop > 0 && isspace((unsigned char)text[stop - 1])) stop--;
        size_t start = stop;
        while (start > 0 && (isalnum((unsigned char)text[start - 1]) || text[start - 1] == '_')) start--;
        const std::string name = text.substr(start, stop - start);
        // The entry's macro is spelled out: the text is preprocessed already.
        const std::string visible = "extern \"C\" __attribute__((visibility(\"default\"))) ";
        // A declaration has none.
        size_t close;
        balanced(text, open, close);
        while (close < text.size() && isspace((unsigned char)text[close])) close++;
        if (text[close] != '{') continue;
        entries += "\n" + visible + "void " + name + "__call(void** values) { cuda_on_cpu_call(" + name + ", values); }\n" + visible + "int " + name + "__sizes(int* sizes) { return cuda_on_cpu_sizes(" + name
            + ", sizes); }\n" + visible + "int " + name + "__bounds() { return " + limit + "; }\n";
    }
    return text + entries;
}

int run(const std::string& command, std::string& log, const std::string& logFile)
{
    const int status = system((command + " 2> " + logFile).c_str());
    log = read_file(logFile);
    unlink(logFile.c_str());
    return status;
}

}  // namespace

API int nvrtcVersion(int* major, int* minor) { *major = 12; *minor = 4; return Success; }
API int nvrtcGetNumSupportedArchs(int* count) { *count = 3; return Success; }
API int nvrtcGetSupportedArchs(int* all) { all[0] = 80; all[1] = 86; all[2] = 90; return Success; }
API const char* nvrtcGetErrorString(int error) { return error == Success ? "NVRTC_SUCCESS" : error == CompilationError ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR_INVALID_INPUT"; }
API int nvrtcCreateProgram(Program** program, const char* text, const char* name, int headers, const char* const*, const char* const*)
{
    *program = new Program{name ? name : "default_program", text, "", ""};
    return headers == 0 ? Success : InvalidInput;
}
API int nvrtcDestroyProgram(Program** program) { delete *program; *program = nullptr; return Success; }
API int nvrtcCompileProgram(Program* program, int, const char* const*)
{
    static std::atomic<int> numbers;
    const char* chosen = getenv("CUDA_ON_CPU_FLAGS");
    const std::string flags = "-std=gnu++17 -O1 -w -fno-strict-aliasing -fwrapv " + std::string(chosen ? chosen : ""), here = folder();
    const std::string modules = here + "/modules";
    mkdir(modules.c_str(), 0755);
    std::stringstream key;
    key << std::hex << std::hash<std::string>()(flags + program->text);
    const std::string made = modules + "/" + key.str() + ".so";
    if (access(made.c_str(), R_OK) != 0) {
        const std::string base = modules + "/" + key.str() + "." + std::to_string(getpid()) + "." + std::to_string(numbers++);
        std::ofstream(base + ".cpp") << "#include \"" << here << "/shim.h\"\n# 1 \"" << program->name << "\"\n" << program->text << "\n";
        int status = run("g++ " + flags + " -E " + base + ".cpp -o " + base + ".ii", program->log, base + ".log");
        if (status == 0) {
            const std::string text = with_entries(read_file(base + ".ii"));
            std::ofstream(base + ".ii") << text;
            status = run("g++ " + flags + " -fpreprocessed -shared -fPIC -fvisibility=hidden " + base + ".ii -o " + base + ".so -lm", program->log, base + ".log");
        }
        unlink((base + ".cpp").c_str());
        unlink((base + ".ii").c_str());
        if (status != 0) return CompilationError;
        rename((base + ".so").c_str(), made.c_str());
    }
    program->image = read_file(made);
    return Success;
}
API int nvrtcGetProgramLogSize(Program* program, size_t* size) { *size = program->log.size() + 1; return Success; }
API int nvrtcGetProgramLog(Program* program, char* log) { memcpy(log, program->log.c_str(), program->log.size() + 1); return Success; }
API int nvrtcGetCUBINSize(Program* program, size_t* size) { *size = program->image.size(); return Success; }
API int nvrtcGetCUBIN(Program* program, char* image) { memcpy(image, program->image.data(), program->image.size()); return Success; }
API int nvrtcGetPTXSize(Program*, size_t*) { return InvalidInput; }
API int nvrtcGetPTX(Program*, char*) { return InvalidInput; }
