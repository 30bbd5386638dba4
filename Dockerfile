# syntax=docker/dockerfile:1
FROM mcr.microsoft.com/dotnet/sdk:10.0 AS build
WORKDIR /source
COPY global.json Directory.Build.props Directory.Packages.props .editorconfig ./
COPY src/ src/
# true takes the ILGPU device in, from nuget.org: docs/decisions/ilgpu.md.
ARG ILGPU=false
# Compiled ahead of time: half a second less of the JIT's work before the first token. Methods with loops over wide registers
# are compiled on the machine that runs them, for what it has.
RUN dotnet publish src/GemmaServer -c Release -o /app --nologo \
    --use-current-runtime --self-contained false -p:PublishReadyToRun=true -p:Ilgpu=${ILGPU}

FROM mcr.microsoft.com/dotnet/aspnet:10.0
# curl only for the health check.
RUN apt-get update && apt-get install -y --no-install-recommends curl && rm -rf /var/lib/apt/lists/*
# For GPUs (docker run --gpus all): CUDA's kernel compiler, as --build-arg NVRTC=12-8; the driver comes from the host.
ARG NVRTC=
RUN if [ -n "$NVRTC" ]; then . /etc/os-release \
    && curl -fsSLo /tmp/keyring.deb "https://developer.download.nvidia.com/compute/cuda/repos/${ID}${VERSION_ID%.*}$([ "$ID" = ubuntu ] && echo "${VERSION_ID#*.}")/x86_64/cuda-keyring_1.1-1_all.deb" \
    && dpkg -i /tmp/keyring.deb && apt-get update && apt-get install -y --no-install-recommends "cuda-nvrtc-$NVRTC" && rm -rf /tmp/keyring.deb /var/lib/apt/lists/*; fi
WORKDIR /app
COPY --from=build /app .
RUN printf '#!/bin/sh\nexec dotnet /app/GemmaServer.dll "$@"\n' > /usr/local/bin/gemmaserver && chmod +x /usr/local/bin/gemmaserver
# Inside a container the server listens on every interface; the port mapping decides who reaches it.
ENV GEMMASERVER_HOST=0.0.0.0 \
    GEMMASERVER_PORT=8000 \
    DOTNET_EnableDiagnostics=0 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8000
VOLUME /models
USER $APP_UID
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD curl -fsS http://127.0.0.1:${GEMMASERVER_PORT}/readyz || exit 1
# SIGTERM drains: /readyz turns 503, running answers finish within --drain-timeout.
STOPSIGNAL SIGTERM
ENTRYPOINT ["gemmaserver"]
CMD ["serve"]
