# The course, set up by its own command. To build it and to open it at http://localhost:8888:
#   docker build --tag course .
#   docker run --rm --publish 8888:8888 --volume course-progress:/course/progress course
# The parties of a real federation have an image of their own: Part02/L5/Dockerfile.
FROM python:3.11-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home learner \
    && mkdir --parents /course/progress \
    && chown --recursive learner /course
USER learner
WORKDIR /course
# First what the set-up needs, so that a changed lesson does not install everything again
COPY --chown=learner Makefile requirements.txt ./
RUN make setup
COPY --chown=learner . .
EXPOSE 8888
CMD ["make", "lab", "LAB=--ip=0.0.0.0 --port=8888 --no-browser"]
